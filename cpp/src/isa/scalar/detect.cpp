#include "isa/isa.hpp"

namespace npconv::scalar {

extern const Isa description;
const Isa description = {"scalar", 0, 16, 16, [] { return true; }};

}  // namespace npconv::scalar
