import COpenSSL

/// HKDF-SHA-256 (RFC 5869), extract and expand: `count` bytes, at most 8160, from a secret that need not be
/// uniform. Different `info` gives independent bytes.
package func hkdfSHA256(
    secret: SecretBytes, salt: [UInt8] = [], info: [UInt8], count: Int
) throws(TrustError) -> SecretBytes {
    let context = try unsafe Owned(
        EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nil), EVP_PKEY_CTX_free, "make a derivation")
    let action = "derive a key with HKDF"
    try check(unsafe EVP_PKEY_derive_init(context.pointer), action)
    try check(unsafe EVP_PKEY_CTX_set_hkdf_md(context.pointer, EVP_sha256()), action)
    try check(
        unsafe EVP_PKEY_CTX_set1_hkdf_key(context.pointer, secret.address, Int32(secret.count)), action)
    // Without a salt the library takes the zeros of the RFC.
    if !salt.isEmpty {
        try check(unsafe EVP_PKEY_CTX_set1_hkdf_salt(context.pointer, salt, Int32(salt.count)), action)
    }
    if !info.isEmpty {
        try check(unsafe EVP_PKEY_CTX_add1_hkdf_info(context.pointer, info, Int32(info.count)), action)
    }
    return try unsafe SecretBytes(count: count) { buffer throws(TrustError) in
        var length = count
        try check(unsafe EVP_PKEY_derive(context.pointer, buffer.baseAddress, &length), action)
        try check(length == count ? 1 : 0, action)
    }
}
