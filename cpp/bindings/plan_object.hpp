// What a Plan object of Python holds and does.
#pragma once

#include "algorithms/run.hpp"
#include "core/workspace.hpp"
#include "problem.hpp"

namespace npconv::bindings {

// Owns copies of the weights, packed and plain: later writes to the user's array don't reach it, repair and pickling
// need the plain ones.
class PyPlan {
public:
    // `given` are the parameters of the class in python/npconv/_npconv.pyi, all of them.
    explicit PyPlan(const py::args& given);
    ~PyPlan();
    PyPlan(const PyPlan&) = delete;
    PyPlan& operator=(const PyPlan&) = delete;
    py::array call(py::handle x, py::handle out, py::handle residual, py::handle num_threads) const;

    // What takes nothing but the plan. All have one signature: each of its own would cost 15 KB of pybind11's templates.
    using Get = std::pair<const char*, py::object (*)(const PyPlan&)>;
    static const Get methods[2], properties[9];

private:
    const Plan& plan() const { return *call_.plan; }
    void choose_and_pack();
    void check_shape(const py::array& x) const;
    void in_planned_order(CallArrays&) const;

    Problem problem_;
    bool has_residual_ = false;
    PlannedCall call_;
    Buffer packed_;
    py::tuple arguments_;
};

// The plan of a Python object that is one; TypeError if it has none.
const PyPlan& plan_of(py::handle self);

// plan(x, out=y) without pybind11's dispatcher, which takes as long as all the rest of a small layer's call: the slot tp_call, and behind
// each object a pointer for the protocol that needs no tuple and no dictionary of arguments. The first before the class is ready, the second
// after its last method: the class can't be changed from then on, or another __call__ would be looked up or not.
void make_room_for_vectorcall(PyTypeObject*);
void set_call_slots(PyTypeObject*);

}  // namespace npconv::bindings
