#include "algorithms/run.hpp"

#include "core/workspace.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {

void run(const Plan& plan, ConvArgs args) {
    const Lease workspace(plan.workspace_bytes(args.src.size[0], args.threads));
    args.workspace = workspace.data();
    const FlushSubnormals flush(plan.desc.accuracy != Accuracy::strict);
    plan.execute(args);
}

}  // namespace npconv
