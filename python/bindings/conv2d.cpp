#include "arrays.hpp"
#include "plain_arguments.hpp"

namespace convpool::bindings {
namespace {

Conv2dParams make_params(const Pair& stride, const py::object& padding, const Pair& dilation, std::int64_t groups,
                         const std::string& padding_mode, const std::string& activation, const std::string& algorithm) {
  Conv2dParams params;
  params.stride = stride;
  params.padding = parse_padding(padding);
  params.dilation = dilation;
  params.groups = groups;
  params.padding_mode = parse_padding_mode(padding_mode);
  params.activation = parse_activation(activation);
  params.algorithm = parse_algorithm(algorithm);
  return params;
}

template <class T>
const T* bias_data(const std::optional<py::array>& bias, std::int64_t out_channels, std::vector<T>& storage) {
  if (!bias) return nullptr;
  if (bias->ndim() != 1 || bias->shape(0) != out_channels) {
    throw std::invalid_argument("bias has shape " + py::str(bias->attr("shape")).cast<std::string>() +
                                ", but the weight has " + std::to_string(out_channels) +
                                " output channels: bias must have shape (" + std::to_string(out_channels) + ",)");
  }
  const T* data = static_cast<const T*>(bias->data());
  if (bias->strides(0) == static_cast<py::ssize_t>(sizeof(T)) || out_channels <= 1) return data;
  storage.resize(static_cast<std::size_t>(out_channels));
  const py::ssize_t step = bias->strides(0) / static_cast<py::ssize_t>(sizeof(T));
  for (std::int64_t k = 0; k < out_channels; ++k) storage[static_cast<std::size_t>(k)] = data[k * step];
  return storage.data();
}

template <class T>
TensorView<const T> weight_view(const py::array& weight) {
  if (weight.ndim() != 4) {
    throw std::invalid_argument("weight must have 4 dimensions (K, C/groups, kH, kW), got shape " +
                                py::str(weight.attr("shape")).cast<std::string>());
  }
  return const_view<T>(weight, Layout::nchw);
}

/// The array to add, which must have the result's shape.
template <class T>
TensorView<const T> add_view(const py::array& add, const Shape4& result, Layout layout, bool batched) {
  const py::tuple expected = layout_shape(result, layout, batched);
  if (!expected.equal(add.attr("shape"))) {
    throw std::invalid_argument("add has shape " + py::str(add.attr("shape")).cast<std::string>() +
                                ", but the result has " + py::str(py::handle(expected)).cast<std::string>() +
                                ": add must have that shape; np.broadcast_to(add, shape) repeats a smaller one");
  }
  return const_view<T>(add, layout);
}

py::array run_conv2d(const py::array& input, const py::array& weight, const std::optional<py::array>& bias,
                     const Conv2dParams& params, Layout layout, const std::optional<py::array>& add,
                     const std::optional<py::array>& out, int num_threads) {
  require_input(input);
  return with_element_type(input, [&]<class T>(T) {
    const TensorView<const T> w = weight_view<T>(weight);
    std::vector<T> bias_storage;
    const T* b = bias_data<T>(bias, w.size(0), bias_storage);
    const TensorView<const T> in = const_view<T>(input, layout);
    const Shape4 shape = conv2d_output_shape(in.shape, w.shape, params);
    std::optional<TensorView<const T>> added;
    if (add) added = add_view<T>(*add, shape, layout, input.ndim() == 4);
    py::array result = result_array(input, input.dtype(), shape, layout, input.ndim() == 4, out);
    const TensorView<T> to = mutable_view<T>(result, layout);
    ExecutionContext context;
    context.num_threads = num_threads;
    {
      py::gil_scoped_release release;
      if (added) {
        conv2d<T>(in, w, b, *added, to, params, context);
      } else {
        conv2d<T>(in, w, b, to, params, context);
      }
    }
    return result;
  });
}

py::array conv2d_array(const py::array& input, const py::array& weight, const std::optional<py::array>& bias,
                       const Pair& stride, const py::object& padding, const Pair& dilation, std::int64_t groups,
                       const std::string& padding_mode, const std::string& layout, const std::string& activation,
                       const std::string& algorithm, const std::optional<py::array>& add,
                       const std::optional<py::array>& out, int num_threads) {
  const Conv2dParams params = make_params(stride, padding, dilation, groups, padding_mode, activation, algorithm);
  return run_conv2d(input, weight, bias, params, parse_layout(layout), add, out, num_threads);
}

// The function of the package with its arguments as they came; None where one isn't plain.
py::object plain_conv2d(const py::handle& input, const py::handle& weight, const py::handle& bias,
                        const py::handle& stride, const py::handle& padding, const py::handle& dilation,
                        const py::handle& groups, const py::handle& padding_mode, const py::handle& layout,
                        const py::handle& activation, const py::handle& algorithm, const py::handle& add,
                        const py::handle& out, const py::handle& num_threads) {
  py::array image = plain::no_array(), filters = plain::no_array();
  Conv2dParams params;
  Layout order{};
  int threads = 0;
  if (!add.is_none() || !out.is_none() || !activation.is_none() || !plain::array(input, image) ||
      !plain::array(weight, filters) || image.dtype().num() != filters.dtype().num() ||
      !plain::pair(stride, params.stride) || !plain::padding(padding, params.padding) ||
      !plain::pair(dilation, params.dilation) || !plain::integer(groups, params.groups) ||
      !plain::text(padding_mode, "zeros") || !plain::text(algorithm, "auto") || !plain::layout(layout, order) ||
      !plain::threads(num_threads, threads)) {
    return py::none();
  }
  std::optional<py::array> offsets;
  if (!bias.is_none()) {
    if (!plain::array(bias, offsets.emplace(plain::no_array())) || offsets->dtype().num() != image.dtype().num()) {
      return py::none();
    }
  }
  return run_conv2d(image, filters, offsets, params, order, std::nullopt, std::nullopt, threads);
}

/// A plan of either element type behind one Python class.
class Plan {
 public:
  Plan(const py::array& weight, const std::optional<py::array>& bias, const Pair& stride, const py::object& padding,
       const Pair& dilation, std::int64_t groups, const std::string& padding_mode, const std::string& layout,
       const std::string& activation, const std::string& algorithm)
      : layout_(parse_layout(layout)), dtype_(weight.dtype()) {
    const Conv2dParams params = make_params(stride, padding, dilation, groups, padding_mode, activation, algorithm);
    with_element_type(weight, [&]<class T>(T) {
      const TensorView<const T> w = weight_view<T>(weight);
      std::vector<T> storage;
      const T* b = bias_data<T>(bias, w.size(0), storage);
      slot<T>().emplace(w, b, params);
    });
  }

  py::array operator()(const py::array& input, const std::optional<py::array>& add, const std::optional<py::array>& out,
                       int num_threads) {
    require_input(input);
    if (input.dtype().num() != dtype_.num()) {
      throw py::type_error("input has dtype " + py::str(input.dtype()).cast<std::string>() + ", but the weight has " +
                           py::str(dtype_).cast<std::string>() + "; use one dtype for both");
    }
    return with_element_type(input, [&]<class T>(T) {
      const Conv2dPlan<T>& plan = *slot<T>();
      const TensorView<const T> in = const_view<T>(input, layout_);
      const Shape4 shape = plan.output_shape(in.shape);
      std::optional<TensorView<const T>> added;
      if (add) added = add_view<T>(*add, shape, layout_, input.ndim() == 4);
      py::array result = result_array(input, dtype_, shape, layout_, input.ndim() == 4, out);
      const TensorView<T> to = mutable_view<T>(result, layout_);
      ExecutionContext context;
      context.num_threads = num_threads;
      {
        py::gil_scoped_release release;
        if (added) {
          plan(in, *added, to, context);
        } else {
          plan(in, to, context);
        }
      }
      return result;
    });
  }

  /// The same on an input of the weight's dtype as it came; None where it or the number of threads isn't plain.
  py::object plain(const py::handle& input, const py::handle& num_threads) {
    py::array image = plain::no_array();
    int threads = 0;
    if (!plain::array(input, image) || image.dtype().num() != dtype_.num() || !plain::threads(num_threads, threads)) {
      return py::none();
    }
    return (*this)(image, std::nullopt, std::nullopt, threads);
  }

  /// The description's text, and its fields by their names in Python.
  std::pair<std::string, py::dict> explain(const py::object& input_shape, int num_threads,
                                           double flops_per_byte) const {
    const Shape4 in = logical_shape(input_shape, layout_);
    const Conv2dDescription d = f32_ ? describe_as(*f32_, in, num_threads, flops_per_byte)
                                     : describe_as(*f64_, in, num_threads, flops_per_byte);
    py::dict fields;
    fields["algorithm"] = algorithm_name(d.algorithm);
    fields["why"] = d.why;
    fields["isa"] = d.isa;
    fields["lanes"] = d.lanes;
    fields["in_vectors"] = d.in_vectors;
    fields["num_threads"] = d.num_threads;
    fields["output_shape"] = layout_shape(d.output_shape, layout_, py::len(input_shape) == 4);
    fields["tile"] = d.tile_rows > 0 ? py::object(py::make_tuple(d.tile_rows, d.tile_vectors)) : py::none();
    fields["winograd_tile"] =
        d.winograd_tile[0] > 0 ? py::object(py::make_tuple(d.winograd_tile[0], d.winograd_tile[1])) : py::none();
    fields["block"] = d.block_pixels > 0
                          ? py::object(py::make_tuple(d.block_pixels, d.block_out_channels, d.block_terms))
                          : py::none();
    fields["flops"] = py::int_(py::float_(d.flops));
    fields["bytes"] = py::int_(py::float_(d.bytes));
    fields["intensity"] = d.intensity();
    fields["balance"] = d.balance;
    fields["bound"] = d.memory_bound() ? "memory" : "compute";
    fields["workspace_bytes"] = d.workspace_bytes;
    fields["packed_weight_bytes"] = d.packed_weight_bytes;
    py::list timings;
    for (const auto& t : d.timings) {
      timings.append(py::make_tuple(algorithm_name(t.algorithm), t.in_vectors, t.seconds));
    }
    fields["timings"] = py::tuple(timings);
    return {d.text(), fields};
  }

  py::dtype dtype() const { return dtype_; }
  py::tuple weight_shape() const {
    return layout_shape(f32_ ? f32_->weight_shape() : f64_->weight_shape(), Layout::nchw, true);
  }

 private:
  template <class T>
  std::optional<Conv2dPlan<T>>& slot() {
    if constexpr (std::is_same_v<T, float>) {
      return f32_;
    } else {
      return f64_;
    }
  }

  template <class T>
  Conv2dDescription describe_as(const Conv2dPlan<T>& plan, const Shape4& in, int num_threads,
                                double flops_per_byte) const {
    ExecutionContext context;
    context.num_threads = num_threads;
    const auto view = [&](auto* data, const Shape4& s) {
      using View = TensorView<std::remove_pointer_t<decltype(data)>>;
      return layout_ == Layout::nchw ? View::nchw(data, s[0], s[1], s[2], s[3])
                                     : View::nhwc(data, s[0], s[1], s[2], s[3]);
    };
    return plan.describe(view(static_cast<const T*>(nullptr), in),
                         view(static_cast<T*>(nullptr), plan.output_shape(in)), context, flops_per_byte);
  }

  Layout layout_;
  py::dtype dtype_;
  std::optional<Conv2dPlan<float>> f32_;
  std::optional<Conv2dPlan<double>> f64_;
};

}  // namespace

void bind_conv2d(py::module_& m) {
  m.def("conv2d", &conv2d_array);
  m.def("plain_conv2d", &plain_conv2d);
  m.def("conv2d_output_shape",
        [](const py::object& input_shape, const Shape4& weight_shape, const Pair& stride, const py::object& padding,
           const Pair& dilation, std::int64_t groups, const std::string& padding_mode, const std::string& layout_name) {
          const Layout layout = parse_layout(layout_name);
          const Conv2dParams params = make_params(stride, padding, dilation, groups, padding_mode, "none", "auto");
          return layout_shape(conv2d_output_shape(logical_shape(input_shape, layout), weight_shape, params), layout,
                              py::len(input_shape) == 4);
        });
  py::class_<Plan>(m, "Conv2dPlan")
      .def(py::init<const py::array&, const std::optional<py::array>&, const Pair&, const py::object&, const Pair&,
                    std::int64_t, const std::string&, const std::string&, const std::string&, const std::string&>())
      .def("__call__", &Plan::operator())
      .def("plain", &Plan::plain)
      .def("explain", &Plan::explain)
      .def_property_readonly("dtype", &Plan::dtype)
      .def_property_readonly("weight_shape", &Plan::weight_shape);
}

}  // namespace convpool::bindings
