// SPDX-License-Identifier: Apache-2.0
// The kernels compiled for this machine's processor by the shim of class `cpu-sim`, each with an entry point that takes
// its parameters as cuLaunchKernel does: an array of pointers to them.
#include "cuda_host.h"

#include "kernels.cu"

#include <utility>

namespace {
template <class T> T at(void** parameters, size_t number) {
  static_assert(sizeof(T) == 8, "every parameter of a kernel is 8 bytes");
  T value;
  memcpy(&value, parameters[number], sizeof value);
  return value;
}
template <class... P, size_t... I>
void start(void (*kernel)(P...), dim3 grid, dim3 block, void** parameters, std::index_sequence<I...>) {
  gpubond::run(grid, block, [=] { kernel(at<P>(parameters, I)...); });
}
template <class... P> void start(void (*kernel)(P...), dim3 grid, dim3 block, void** parameters) {
  start(kernel, grid, block, parameters, std::index_sequence_for<P...>());
}
template <class... P> int count(void (*)(P...)) { return sizeof...(P); }
}  // namespace

#define ENTRY(name)                                                                                    \
  extern "C" void launch_##name(unsigned x, unsigned y, unsigned threads, void** parameters) {         \
    start(name, dim3(x, y), dim3(threads), parameters);                                                \
  }                                                                                                    \
  extern "C" int parameters_##name() { return count(name); }
KERNELS(ENTRY)
