#ifndef CLOUDRMM_CSODIUM_SHIM_H
#define CLOUDRMM_CSODIUM_SHIM_H

#include <sodium/core.h>
#include <sodium/crypto_sign_ed25519.h>

#endif
