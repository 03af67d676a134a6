/// What the runs of a job wait for, summed up.
package struct JobExplanation: Sendable, Equatable {
    /// How many of its runs wait for the same thing.
    package struct Group: Sendable, Equatable {
        /// What they wait for, how many they are, and the first of them.
        package let cause: WaitCause
        package var count: Int
        package let first: RunID
        /// What is to be said of that run.
        package let sentence: String
        /// Since when the first of them waits for that.
        package let since: Instant?
    }

    /// The commonest first; of as many, in the order of the causes.
    package let groups: [Group]
    /// One plain sentence.
    package let sentence: String

    /// The explanation of a job by its open runs, of which there may be more than were looked at.
    package init(
        state: JobState, isExpanded: Bool, runs: [(RunID, RunExplanation)], isWhole: Bool,
        ended: [RunState: Int], finishedAt: Instant?
    ) {
        var groups: [WaitCause: Group] = [:]
        for (run, explanation) in runs {
            groups[
                explanation.cause,
                default: Group(
                    cause: explanation.cause, count: 0, first: run, sentence: explanation.sentence,
                    since: explanation.since)
            ].count += 1
        }
        let order = Dictionary(zip(WaitCause.allCases, 0...)) { first, _ in first }
        self.groups = groups.values.sorted {
            ($1.count, order[$0.cause, default: 0]) < ($0.count, order[$1.cause, default: 0])
        }
        sentence =
            Self.sentence(
                state, isExpanded: isExpanded, self.groups, looked: runs.count, isWhole: isWhole,
                ended: ended, finishedAt: finishedAt) + "."
    }

    private static func sentence(
        _ state: JobState, isExpanded: Bool, _ groups: [Group], looked: Int, isWhole: Bool,
        ended: [RunState: Int], finishedAt: Instant?
    ) -> String {
        let endings = RunState.allCases.compactMap { state in
            state.isOutcome ? ended[state].map { "\($0) \(state.name)" } : nil
        }.joined(separator: ", ")
        if groups.isEmpty {
            if state == .completed || state == .cancelled || (isExpanded && !ended.isEmpty) {
                let how = endings.isEmpty ? "it had no runs" : endings
                return "It has ended\(finishedAt.map { " at \($0)" } ?? ""): \(how)"
            }
            return isExpanded
                ? "Its runs are being ended" : "Its target is being expanded into runs, which takes seconds"
        }
        let counts = groups.map { $0.cause.counted($0.count) }.joined(separator: ", ")
        let open =
            isWhole
            ? "Of its \(looked) open run\(looked == 1 ? "" : "s")" : "Of its first \(looked) open runs"
        let more = isExpanded ? "" : "; its target is still being expanded"
        return "\(open) \(counts)\(endings.isEmpty ? "" : "; ended so far: \(endings)")\(more)"
    }
}
