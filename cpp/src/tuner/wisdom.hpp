// What was measured on this machine: the table in memory. Its file is Python's business.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/algorithm.hpp"

namespace npconv {

// As it stands in the file: nothing of it is trusted until update() has looked at it.
struct WisdomEntry {
    std::string descriptor;  // ConvDesc::key()
    std::string isa;
    int threads = 1;
    std::string algorithm;
    int revision = 0;
    std::string parameters;
    double seconds = 0;
    Rigor rigor = Rigor::measure;
    double time = 0;  // Unix seconds of the measurement
};

struct WisdomChoice {
    const Algorithm* algorithm;
    Params params;
    double seconds;
    Rigor rigor;
};

namespace wisdom {

// Whether the entry may be used: it parses, its algorithm has that revision, doesn't refuse, and has these parameters
// among its candidates.
bool valid(const WisdomEntry&);

struct Update {
    int accepted = 0, rejected = 0;
};
// Merges: the higher rigor wins, then the newer. An entry that loses to a better one counts as accepted.
Update update(const std::vector<WisdomEntry>&);
std::vector<WisdomEntry> entries();
void clear();
int forget(const std::string& key);  // entries removed

std::optional<WisdomChoice> find(const ConvDesc&, const Isa&, int threads);

// What the nearest measured problem says of the estimate of `params` for `desc`: a factor, 1 if nothing is near.
// Nearest = equal in all but mb, ic, oc, image size and threads; the factor fades with the distance.
class Correction {
public:
    Correction(const ConvDesc&, const Isa&, int threads, const Machine&);
    double factor(const Algorithm&, const Params&) const;

private:
    std::optional<ConvDesc> near_;
    std::optional<WisdomChoice> winner_;
    const Isa& isa_;
    const Machine& machine_;
    int threads_ = 1;
    double weight_ = 0;
};

// Raised by every change of the table, so that cached plans know that they may be out of date.
std::uint64_t generation();

// Called once, before the process's first look into the table.
void set_loader(std::function<void()>);
void load_once();

}  // namespace wisdom
}  // namespace npconv
