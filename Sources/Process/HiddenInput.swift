import Glibc

/// Runs a body while the terminal at stdin does not show what is typed; as it is where there is none.
package func withoutEcho<Value>(_ body: () throws -> Value) rethrows -> Value {
    var before = termios()
    guard unsafe tcgetattr(STDIN_FILENO, &before) == 0 else { return try body() }
    var hidden = before
    hidden.c_lflag &= ~tcflag_t(ECHO)
    _ = unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden)
    defer { _ = unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &before) }
    return try body()
}
