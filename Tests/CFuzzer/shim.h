#include <stddef.h>
#include <stdint.h>

// The entry of LLVM's libFuzzer for programs with a main of their own (llvm.org/docs/LibFuzzer.html).
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*run)(const uint8_t *data, size_t size));
