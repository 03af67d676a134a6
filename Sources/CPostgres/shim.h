#ifndef CLOUDRMM_CPOSTGRES_SHIM_H
#define CLOUDRMM_CPOSTGRES_SHIM_H

#include <libpq-fe.h>
#include <sys/eventfd.h>

#endif
