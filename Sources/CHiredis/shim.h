#pragma once

#include <hiredis/hiredis.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

/// Names the calling thread, as `ps -L` and a debugger show it (`prctl` is variadic).
static inline void name_thread(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
}
