/* Marks what a shared library offers; everything else in it is hidden. The static library is compiled with
 * CONVPOOL_HIDDEN, so that a shared object which takes it in does not pass the symbols on as its own. */
#ifndef CONVPOOL_EXPORT_H
#define CONVPOOL_EXPORT_H

#if defined(CONVPOOL_HIDDEN)
#define CONVPOOL_API
#else
#define CONVPOOL_API __attribute__((visibility("default")))
#endif
/* Of a class that is marked, the parts that nobody outside can use. */
#define CONVPOOL_LOCAL __attribute__((visibility("hidden")))

#endif
