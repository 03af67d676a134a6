import CFuzzer
import Glibc

// Lets libFuzzer make up inputs of the parser that the first argument names; what follows are libFuzzer's own
// arguments. A trap, a broken promise, a hang or too much memory ends it, and the input is kept.

guard Parser.chosen != nil else {
    print(Parser.allCases.map(\.rawValue).joined(separator: "\n"))
    exit(CommandLine.arguments.count > 1 ? 2 : 0)
}
// The name of a program stands before its arguments, as libFuzzer expects it.
var count = CommandLine.argc - 1
var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv + 1
exit(
    unsafe LLVMFuzzerRunDriver(&count, &arguments) { data, size in
        Parser.chosen?.check(unsafe Array(UnsafeBufferPointer(start: data, count: size)))
        return 0
    })
