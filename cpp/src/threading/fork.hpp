// Whether this process was forked from one that had already used the OpenMP pool.
#pragma once

namespace npconv {

void mark_pool_used();
bool forked_with_pool();

}  // namespace npconv
