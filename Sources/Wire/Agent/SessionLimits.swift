/// The limits that both ends of a session share; `limits.json` beside the protocol's page is this table.
///
/// A gateway says in its welcome which hold in the session. An agent obeys those that are lower than its own
/// and overlooks higher ones: they are unsigned, and can only deny.
package struct SessionLimits: WireObject, Equatable {
    /// Bytes of a message.
    package var frameBytes: Int
    /// Values and names of a message, and levels of it.
    package var frameValues: Int
    package var frameDepth: Int
    /// Attempts of each of the two lists of a hello.
    package var helloAttempts: Int
    /// Results that are under way at a time.
    package var resultsInFlight: Int
    /// Bytes kept of each of a run's outputs: the first, and the last.
    package var outputHeadBytes: Int
    package var outputTailBytes: Int
    /// Bytes of a signed job.
    package var statementBytes: Int
    /// Seconds that a hello, and its welcome, may take.
    package var helloSeconds: Int
    package var welcomeSeconds: Int

    /// What this build of either end goes by.
    package static let own = SessionLimits(
        frameBytes: Limits.frameBytesMax, frameValues: Limits.frameValuesMax,
        frameDepth: Limits.frameDepthMax, helloAttempts: Limits.helloAttemptsMax,
        resultsInFlight: Limits.resultsInFlightMax, outputHeadBytes: Limits.outputHeadBytes,
        outputTailBytes: Limits.outputTailBytes, statementBytes: Limits.statementBytesMax,
        helloSeconds: Limits.helloSecondsMax, welcomeSeconds: Limits.welcomeSecondsMax)

    /// A table.
    package init(
        frameBytes: Int, frameValues: Int, frameDepth: Int, helloAttempts: Int, resultsInFlight: Int,
        outputHeadBytes: Int, outputTailBytes: Int, statementBytes: Int, helloSeconds: Int,
        welcomeSeconds: Int
    ) {
        self.frameBytes = frameBytes
        self.frameValues = frameValues
        self.frameDepth = frameDepth
        self.helloAttempts = helloAttempts
        self.resultsInFlight = resultsInFlight
        self.outputHeadBytes = outputHeadBytes
        self.outputTailBytes = outputTailBytes
        self.statementBytes = statementBytes
        self.helloSeconds = helloSeconds
        self.welcomeSeconds = welcomeSeconds
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        frameBytes = try reader.field("frameBytes", Int.self, .in(1...Int.max))
        frameValues = try reader.field("frameValues", Int.self, .in(1...Int.max))
        frameDepth = try reader.field("frameDepth", Int.self, .in(1...Int.max))
        helloAttempts = try reader.field("helloAttempts", Int.self, .in(0...Int.max))
        resultsInFlight = try reader.field("resultsInFlight", Int.self, .in(1...Int.max))
        outputHeadBytes = try reader.field("outputHeadBytes", Int.self, .in(0...Int.max))
        outputTailBytes = try reader.field("outputTailBytes", Int.self, .in(0...Int.max))
        statementBytes = try reader.field("statementBytes", Int.self, .in(1...Int.max))
        helloSeconds = try reader.field("helloSeconds", Int.self, .in(1...Int.max))
        welcomeSeconds = try reader.field("welcomeSeconds", Int.self, .in(1...Int.max))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("frameBytes", frameBytes)
        writer.field("frameValues", frameValues)
        writer.field("frameDepth", frameDepth)
        writer.field("helloAttempts", helloAttempts)
        writer.field("resultsInFlight", resultsInFlight)
        writer.field("outputHeadBytes", outputHeadBytes)
        writer.field("outputTailBytes", outputTailBytes)
        writer.field("statementBytes", statementBytes)
        writer.field("helloSeconds", helloSeconds)
        writer.field("welcomeSeconds", welcomeSeconds)
    }
}

extension OutputExcerpt {
    /// The same output with no more kept of it than a gateway takes.
    package func cut(to limits: SessionLimits) -> OutputExcerpt {
        guard head.bytes.count > limits.outputHeadBytes || tail.bytes.count > limits.outputTailBytes else {
            return self
        }
        // Where nothing was left out, what is cut from the head's end is the end of all that there is.
        let all = head.bytes + tail.bytes
        let kept = isTruncated ? tail.bytes : Array(all.dropFirst(limits.outputHeadBytes))
        return OutputExcerpt(
            head: Array(all.prefix(min(limits.outputHeadBytes, isTruncated ? head.bytes.count : all.count))),
            tail: kept.suffix(limits.outputTailBytes), bytes: bytes)
    }
}

extension Finished {
    /// The same end with no more kept of its outputs than a gateway takes.
    package func cut(to limits: SessionLimits) -> Finished {
        var cut = self
        (cut.stdout, cut.stderr) = (stdout.cut(to: limits), stderr.cut(to: limits))
        return cut
    }
}
