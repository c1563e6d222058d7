#include "isa_tables.hpp"

#define CONVPOOL_TEXT(name) #name
#define CONVPOOL_TEXT_OF(name) CONVPOOL_TEXT(name)

namespace convpool::kernels::CONVPOOL_ISA {

constinit const IsaKernels kernels{CONVPOOL_TEXT_OF(CONVPOOL_ISA), table_f32, table_f64, pool};

}  // namespace convpool::kernels::CONVPOOL_ISA
