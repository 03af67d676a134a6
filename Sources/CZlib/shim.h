#ifndef CLOUDRMM_CZLIB_SHIM_H
#define CLOUDRMM_CZLIB_SHIM_H

#include <zlib.h>

#endif
