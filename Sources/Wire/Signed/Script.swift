package import Domain

/// What a job of kind `script` runs.
package struct Script: WireObject, Equatable {
    /// The program that runs the body.
    package var interpreter: Interpreter
    /// The script, UTF-8 without NUL, up to 1 MiB.
    package var body: String
    /// Arguments after the script's own name.
    package var args: [String]
    /// Environment variables beside the agent's fixed few.
    package var env: [String: String]
    /// Secrets that it is given, as variables of their own or as its input.
    package var secrets: [SecretUse]
    /// Standard input; absent means none.
    package var stdin: String?
    /// The directory in which it starts; absent means a private one of the run.
    package var workingDirectory: String?

    /// A script with nothing but its body.
    package init(_ interpreter: Interpreter, _ body: String) {
        self.interpreter = interpreter
        self.body = body
        args = []
        env = [:]
        secrets = []
    }

    /// Reads the fields; the names of variables are judged, and the directory must be absolute.
    package init(from reader: inout FieldReader) throws(FieldError) {
        interpreter = try reader.field("interpreter")
        body = try reader.field("body", String.self, .in(1...Limits.scriptBytesMax))
        args =
            try reader.optional(
                "args", [String].self, .in(0...Limits.argumentsMax, elements: 0...Limits.argumentBytesMax))
            ?? []
        env =
            try reader.optional(
                "env", [String: String].self,
                .in(0...Limits.environmentMax, elements: 0...Limits.environmentBytesMax))
            ?? [:]
        secrets =
            try reader.optional("secrets", [SecretUse].self, .in(0...Limits.scriptSecretsMax)) ?? []
        stdin = try reader.optional("stdin", String.self, .in(0...Limits.stdinBytesMax))
        workingDirectory = try reader.optional("workingDirectory", String.self, .in(1...Limits.pathBytesMax))
        for name in env.keys.sorted() {
            if let refusal = RefusedEnvironment.refusal(of: name) {
                throw FieldError(.invalid, field: "\(reader.name(of: "env")).\(printable(name))", refusal)
            }
        }
        if let workingDirectory, !workingDirectory.hasPrefix("/") {
            throw FieldError(.invalid, field: reader.name(of: "workingDirectory"), "must be an absolute path")
        }
        try judgeSecrets(reader)
    }

    /// Refuses two values for one variable, or for the input.
    private func judgeSecrets(_ reader: borrowing FieldReader) throws(FieldError) {
        var taken = Set(env.keys)
        var hasInput = stdin != nil
        for (index, use) in secrets.enumerated() {
            let field = "\(reader.name(of: "secrets"))[\(index)]"
            if let environment = use.environment {
                guard taken.insert(environment).inserted else {
                    throw FieldError(
                        .invalid, field: "\(field).environment",
                        "is \(environment), which another secret or env sets too")
                }
            } else {
                guard !hasInput else {
                    throw FieldError(
                        .invalid, field: "\(field).stdin",
                        "is given although the input is another secret's or given as stdin")
                }
                hasInput = true
            }
        }
    }

    /// Appends the fields that are set.
    package func fields(to writer: inout JSONWriter) {
        writer.field("interpreter", interpreter)
        writer.field("body", body)
        if !args.isEmpty { writer.field("args", args) }
        if !env.isEmpty { writer.field("env", env) }
        if !secrets.isEmpty { writer.field("secrets", secrets) }
        writer.field("stdin", stdin)
        writer.field("workingDirectory", workingDirectory)
    }
}
