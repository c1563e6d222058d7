#include "arrays.hpp"

namespace convpool::bindings {

void bind_runtime(py::module_& m) {
  m.def("set_num_threads", &set_num_threads);
  m.def("get_num_threads", &get_num_threads);
  m.def("isa", &isa);
  m.def("available_isas", [] { return py::tuple(py::cast(available_isas())); });
  m.def("force_isa", &set_isa);
  m.def("is_plain_output", &is_plain_output);
  m.def("measure_fma_peak", &measure_fma_peak, py::call_guard<py::gil_scoped_release>());
  m.def("measure_memory_bandwidth", &measure_memory_bandwidth, py::call_guard<py::gil_scoped_release>());
  m.def("config", [] {
    const BuildInfo info = build_info();
    py::dict config;
    config["version"] = version();
    config["compiler"] = info.compiler;
    config["flags"] = info.flags;
    config["build_type"] = info.build_type;
    config["isas_built"] = py::tuple(py::cast(info.isas));
    config["isas_available"] = py::tuple(py::cast(available_isas()));
    config["isa"] = isa();
    config["threads"] = info.threads;
    config["num_threads"] = get_num_threads();
    return config;
  });
}

}  // namespace convpool::bindings
