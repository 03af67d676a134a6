import COpenSSL

/// libcrypto as a part of the process.
package enum CryptoLibrary {
    /// Keeps libcrypto whole until the process has ended; the first thing that a program does with it.
    ///
    /// Else it takes itself down in `exit`, and a thread that ends at the same moment, and cleans up what it
    /// used of it, reads what is gone already: the program had done its work and died by SIGSEGV. The system
    /// takes the memory back. See OPENSSL_init_crypto(3), `OPENSSL_INIT_NO_ATEXIT`.
    package static func outliveExit() {
        // It fails only where there is no memory for anything, which the next use says.
        _ = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil)
    }
}
