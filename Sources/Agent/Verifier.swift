package import Domain
package import Trust
package import Wire

/// Why a dispatch is refused: nothing of it was started, and nothing of it will be.
package struct Refusal: Error, Sendable, Equatable {
    /// The stable words of a refusal.
    package enum Code: String, Sendable, CaseIterable {
        /// The signature does not hold, or no pinned key made it.
        case signature
        /// A statement of another type.
        case type
        /// A statement of another deployment.
        case deployment
        /// A statement for another organization.
        case organization
        /// The target does not include this device.
        case target
        /// The job's, the key set's or the assignment's validity is over.
        case expired
        /// The job was signed in the future, or may not start yet.
        case notYetValid
        /// The attempt was seen under another run or token, or a later one of the job was.
        case replay
        /// The attempt is not one that the signed policy allows now.
        case attempts
        /// The signed content is not a job that this agent can run.
        case content
        /// The job's secrets did not come, do not open, or are not those that were signed for.
        case secret
        /// The agent's queue, its outbox or its disk is full.
        case full
    }

    /// Why.
    package let code: Code
    /// One sentence for the operator, at most 500 bytes.
    package let message: String

    /// A refusal; a long message is cut.
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = String(
            decoding: message.utf8.prefix(497).filter { $0 < 0x80 && $0 != 0 }, as: UTF8.self)
    }
}

/// A job whose signature, organization, target and validity have been judged: what the device may start.
package struct VerifiedJob: Sendable, Equatable {
    /// The signed content.
    package let payload: JobPayload
    /// The end of the statement's validity.
    package let expiresAt: Instant
    /// The values of the script's secrets, in its order; they lie in memory alone, overwritten at the end.
    package var secrets: [SecretBytes] = []
}

/// A statement that the device has pinned.
package struct Pin<Payload: WireObject & Equatable>: Sendable, Equatable {
    /// The encoded statement, as it lies on disk.
    package let encoded: [UInt8]
    /// Its content.
    package let payload: Payload
    /// The organization that it names.
    package let organization: OrganizationID
    /// The end of its validity.
    package let expiresAt: Instant

    /// A statement that was verified when it was pinned.
    init(trusting encoded: [UInt8], as type: StatementType) throws {
        let statement = try UnverifiedStatement(SignedStatement(encoded: encoded), as: type)
        self.encoded = encoded
        payload = try Payload.decode(statement.payload)
        organization = statement.organization
        expiresAt = statement.expiresAt
    }

    /// A statement that holds now under one of the keys.
    init(
        verifying encoded: [UInt8], as type: StatementType, by keys: [VerifyingKey], deployment: DeploymentID,
        now: Instant
    ) throws {
        let statement = try SignedStatement(encoded: encoded).verified(
            as: type, by: keys, deployment: deployment.bytes, now: now.seconds, organization: nil)
        guard let organization = UniqueID(bytes: statement.organization) else {
            throw AgentError(.untrusted, "a statement names no organization")
        }
        self.encoded = encoded
        payload = try Payload.decode(statement.payload)
        self.organization = OrganizationID(organization)
        expiresAt = Instant(seconds: min(statement.expiresAt, Int64.max / 1_000_000))
    }
}

/// What the device believes: the pinned key set and assignment, and by them the judgement over every
/// dispatch.
///
/// Only statements get power: a key set must be signed by the root key, an assignment by a job key, both with
/// a version above the pinned one; a job must be signed by a job key for the pinned organization and a target
/// that includes the device. Signatures are checked before anything is parsed.
package struct Verifier: Sendable, Equatable {
    /// The installation that the device belongs to.
    package let deployment: DeploymentID
    /// The device itself.
    package let device: DeviceID
    /// SHA-256 of the device's public key.
    package let keyHash: [UInt8]
    /// The key that signs key sets.
    package let rootKey: VerifyingKey
    /// Which keys may sign, and the two CAs.
    package private(set) var keySet: Pin<KeySetPayload>
    /// Where the device belongs.
    package private(set) var assignment: Pin<AssignmentPayload>
    private var jobKeys: [VerifyingKey]

    /// How much before its time a job may start by the device's clock: a clock that is slow by more has its
    /// device refuse all that is signed now, so nothing is gained by being stricter. It is also all that a
    /// server which sends a job too early can win.
    static let startTolerance = Duration.seconds(Statement.issueToleranceSeconds)

    /// Takes what was pinned before.
    package init(
        deployment: DeploymentID, device: DeviceID, keyHash: [UInt8], rootKey: VerifyingKey,
        pinnedKeySet: [UInt8],
        pinnedAssignment: [UInt8]
    ) throws {
        self.deployment = deployment
        self.device = device
        self.keyHash = keyHash
        self.rootKey = rootKey
        keySet = try Pin(trusting: pinnedKeySet, as: .keySet)
        assignment = try Pin(trusting: pinnedAssignment, as: .assignment)
        jobKeys = try keySet.payload.jobKeys.map { try VerifyingKey(bytes: $0.bytes) }
        try Self.requireOwn(assignment.payload, device: device, keyHash: keyHash)
    }

    /// Judges the first key set and assignment of a device, as they come with its enrolment.
    package init(
        deployment: DeploymentID, device: DeviceID, keyHash: [UInt8], rootKey: VerifyingKey, keySet: [UInt8],
        assignment: [UInt8], now: Instant
    ) throws {
        self.deployment = deployment
        self.device = device
        self.keyHash = keyHash
        self.rootKey = rootKey
        self.keySet = try Pin(verifying: keySet, as: .keySet, by: [rootKey], deployment: deployment, now: now)
        jobKeys = try self.keySet.payload.jobKeys.map { try VerifyingKey(bytes: $0.bytes) }
        self.assignment = try Pin(
            verifying: assignment, as: .assignment, by: jobKeys, deployment: deployment, now: now)
        try Self.requireOwn(self.assignment.payload, device: device, keyHash: keyHash)
    }

    /// The organization that the device belongs to.
    package var organization: OrganizationID { assignment.organization }

    /// Puts a newer key set into force; throws and changes nothing if it is not by the root key or not newer.
    /// The one that is pinned is none.
    /// - Returns: whether it is in force since now.
    @discardableResult
    package mutating func adopt(keySet encoded: [UInt8], now: Instant) throws -> Bool {
        guard encoded != keySet.encoded else { return false }
        let new = try Pin<KeySetPayload>(
            verifying: encoded, as: .keySet, by: [rootKey], deployment: deployment, now: now)
        guard new.payload.version > keySet.payload.version else {
            throw AgentError(
                .untrusted,
                "key set \(new.payload.version) is not newer than the pinned \(keySet.payload.version)")
        }
        jobKeys = try new.payload.jobKeys.map { try VerifyingKey(bytes: $0.bytes) }
        keySet = new
        return true
    }

    /// Puts a newer assignment into force; throws and changes nothing if it is not by a job key, not newer,
    /// or not this device's. The one that is pinned is none.
    /// - Returns: whether it is in force since now.
    @discardableResult
    package mutating func adopt(assignment encoded: [UInt8], now: Instant) throws -> Bool {
        guard encoded != assignment.encoded else { return false }
        let new = try Pin<AssignmentPayload>(
            verifying: encoded, as: .assignment, by: jobKeys, deployment: deployment, now: now)
        try Self.requireOwn(new.payload, device: device, keyHash: keyHash)
        guard new.payload.version > assignment.payload.version else {
            throw AgentError(
                .untrusted,
                "assignment \(new.payload.version) is not newer than the pinned \(assignment.payload.version)"
            )
        }
        assignment = new
        return true
    }

    /// The job of a dispatch, if the device may run it.
    package func job(of dispatch: Dispatch, now: Instant) throws(Refusal) -> VerifiedJob {
        let statement: Statement
        do throws(TrustError) {
            statement = try SignedStatement(encoded: dispatch.job.bytes).verified(
                as: .job, by: jobKeys, deployment: deployment.bytes, now: now.seconds,
                organization: organization.bytes)
        } catch {
            throw Refusal(Self.code(of: error), error.message)
        }
        guard now < keySet.expiresAt else { throw Refusal(.expired, "the pinned key set has expired") }
        guard now < assignment.expiresAt else { throw Refusal(.expired, "the pinned assignment has expired") }
        let payload: JobPayload
        do {
            payload = try JobPayload.decode(statement.payload)
        } catch {
            throw Refusal(.content, "the signed job cannot be read: \(error)")
        }
        try judge(payload.target, of: dispatch)
        guard dispatch.name.attempt <= payload.maximumAttempts else {
            throw Refusal(.attempts, "the job was signed for \(payload.maximumAttempts) attempts at most")
        }
        if let notBefore = payload.notBefore, now + Self.startTolerance < notBefore {
            throw Refusal(.notYetValid, "the job may start at \(notBefore); here it is \(now)")
        }
        return VerifiedJob(
            payload: payload, expiresAt: Instant(seconds: min(statement.expiresAt, Int64.max / 1_000_000)))
    }

    private func judge(_ target: SignedTarget, of dispatch: Dispatch) throws(Refusal) {
        switch target {
        case .organization: break
        case .site(let site):
            guard site == assignment.payload.site else {
                throw Refusal(.target, "the job is for another site than this device's")
            }
        case .list(let root, let size):
            guard let index = dispatch.leafIndex, let proof = dispatch.proof,
                MerkleTree.isIncluded(
                    leaf: SignedTarget.leaf(organization: organization, device: device), index: index,
                    size: size,
                    proof: proof.map(\.bytes), root: root)
            else { throw Refusal(.target, "nothing shows that this device is in the job's list") }
        }
    }

    private static func requireOwn(_ payload: AssignmentPayload, device: DeviceID, keyHash: [UInt8])
        throws(AgentError)
    {
        guard payload.device == device, payload.keyHash.bytes == keyHash else {
            throw AgentError(.untrusted, "the assignment is another device's or for another key")
        }
    }

    private static func code(of error: TrustError) -> Refusal.Code {
        switch error.code {
        case .wrongType: .type
        case .wrongDeployment: .deployment
        case .wrongOrganization: .organization
        case .expired: .expired
        case .notYetValid: .notYetValid
        default: .signature
        }
    }
}
