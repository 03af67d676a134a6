/// The requests that share one transaction on the wire, and what has been learned of them: pure.
///
/// A batch is sent as steps and one Sync; each step is answered once, in order. Its outcome counts only when
/// the answer to the Sync is there, since the commit can still fail.
struct Batch {
    /// What the next answer is about.
    enum Step: Equatable {
        case prepare(StatementKey)
        case scope
        case statement(member: Int, key: StatementKey)
        case deallocate
    }

    let id: Int
    let members: [Request]
    /// How long the server may take for it.
    let limit: Duration
    var steps: ArraySlice<Step> = []
    /// Whether it was sent up to its end.
    var isSynced = false
    private(set) var results: [[PostgresResult]]
    private(set) var error: PostgresError?
    /// Which member's statement failed; nil if it was the commit.
    private(set) var offender: Int?

    /// What the server answers to a statement that opens or ends a transaction.
    private static let controls: Set = [
        "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE TRANSACTION",
    ]

    init(id: Int, members: [Request], limit: Duration) {
        self.id = id
        self.members = members
        self.limit = limit
        results = Array(repeating: [], count: members.count)
    }

    var isScript: Bool { members.first?.isScript ?? false }
    /// Whether the rows of the next answer are for a caller.
    var keepsRows: Bool { if case .statement = steps.first { true } else { isScript } }

    /// Takes a result; returns an error if it shows that the statement opened or ended a transaction on its
    /// own.
    mutating func succeed(_ step: Step?, _ result: PostgresResult) -> PostgresError? {
        if case .statement(let member, _) = step { results[member].append(result) }
        if isScript { results[0].append(result) }
        guard Self.controls.contains(result.tag), let first = members.first, !first.controlsTransaction else {
            return nil
        }
        return PostgresError(
            .configuration,
            "\(result.tag) as a statement: transactions are opened and ended by the pool alone")
    }

    /// Takes the first error; those after it are its consequences.
    mutating func fail(_ step: Step?, _ failure: PostgresError) {
        guard error == nil else { return }
        error = failure
        switch step {
        case .statement(let member, let key):
            offender = member
            error?.statement = key.text
        case .prepare(let key):
            error?.statement = key.text
            offender =
                steps.lazy.compactMap { if case .statement(let member, _) = $0 { member } else { nil } }.first
        case .scope:
            offender =
                steps.lazy.compactMap { if case .statement(let member, _) = $0 { member } else { nil } }.first
        case .deallocate, nil: break
        }
    }

    /// The groups to try instead of a failed one: around the offender if it is known, else halves. Empty if
    /// the only member is the offender.
    var bisected: [[Request]] {
        guard members.count > 1 else { return [] }
        let cut = offender ?? members.count / 2
        let parts =
            offender == nil
            ? [members[..<cut], members[cut...]]
            : [members[..<cut], members[cut...cut], members[(cut + 1)...]]
        return parts.filter { !$0.isEmpty }.map(Array.init)
    }
}
