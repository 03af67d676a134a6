package import Domain

/// Payload of a job statement: the whole execution. The agent takes every field from here and from nowhere
/// else.
package struct JobPayload: WireObject, Equatable {
    /// The job; with the attempt it is the agent's replay key.
    package var job: JobID
    /// What is done.
    package var kind: JobKind
    /// What is run, for kind `script`.
    package var script: Script?
    /// Seconds that it may run.
    package var timeoutSeconds: Int
    /// Attempts that may be started at most.
    package var maximumAttempts: Int
    /// Whether an attempt whose end is unknown may be followed by another.
    package var idempotent: Bool
    /// When it may be started first; absent means at once.
    package var notBefore: Instant?
    /// Whom it is for.
    package var target: SignedTarget
    /// The values that the script's secrets stand for.
    package var secrets: [SignedSecret] = []

    /// An execution as a principal submitted it.
    package init(
        job: JobID, kind: JobKind, script: Script?, timeoutSeconds: Int, maximumAttempts: Int,
        idempotent: Bool, notBefore: Instant? = nil,
        target: SignedTarget
    ) {
        self.job = job
        self.kind = kind
        self.script = script
        self.timeoutSeconds = timeoutSeconds
        self.maximumAttempts = maximumAttempts
        self.idempotent = idempotent
        self.notBefore = notBefore
        self.target = target
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        job = try reader.field("job")
        kind = try reader.field("kind")
        script = try reader.optional("script")
        timeoutSeconds = try reader.field("timeoutSeconds", Int.self, .in(Limits.timeoutSeconds))
        maximumAttempts = try reader.field("maximumAttempts", Int.self, .in(Limits.attempts))
        idempotent = try reader.field("idempotent")
        notBefore = try reader.optional("notBefore")
        target = try reader.field("target")
        secrets =
            try reader.optional("secrets", [SignedSecret].self, .in(0...Limits.signedSecretsMax)) ?? []
        guard !reader.isRecording else { return }
        guard Set(secrets.map(\.name)) == Set((script?.secrets ?? []).map(\.name)) else {
            throw FieldError(
                .invalid, field: reader.name(of: "secrets"), "are not those that the script names")
        }
        if (kind == .script) != (script != nil) {
            throw FieldError(
                .invalid, field: reader.name(of: "script"), "stands with kind script and only with it")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("job", job)
        writer.field("kind", kind)
        writer.field("script", script)
        writer.field("timeoutSeconds", timeoutSeconds)
        writer.field("maximumAttempts", maximumAttempts)
        writer.field("idempotent", idempotent)
        writer.field("notBefore", notBefore)
        writer.field("target", target)
        if !secrets.isEmpty { writer.field("secrets", secrets) }
    }
}

/// Whom a signed job is for, in the form that a device can judge by itself.
package enum SignedTarget: Sendable, Equatable {
    /// Every device of the statement's organization.
    case organization
    /// Every device of a site.
    case site(SiteID)
    /// The devices of a list: root and size of the Merkle tree over `SignedTarget.leaf`; each dispatch brings
    /// a proof.
    case list(root: [UInt8], size: Int)

    /// The bytes of a device's leaf: organization, then device.
    package static func leaf(organization: OrganizationID, device: DeviceID) -> [UInt8] {
        organization.bytes + device.bytes
    }
}

extension SignedTarget: WireObject {
    /// Reads exactly one of the three forms.
    package init(from reader: inout FieldReader) throws(FieldError) {
        let organization: Bool? = try reader.optional("organization")
        let site: SiteID? = try reader.optional("site")
        let root: Base64Bytes? = try reader.optional("root", Base64Bytes.self, .in(32...32))
        let size: Int? = try reader.optional("size", Int.self, .in(1...Limits.deviceIDsMax))
        switch (organization, site, root, size) {
        case (true?, nil, nil, nil): self = .organization
        case (nil, let site?, nil, nil): self = .site(site)
        case (nil, nil, let root?, let size?): self = .list(root: root.bytes, size: size)
        default:
            guard reader.isRecording else {
                throw FieldError(
                    .invalid, field: reader.name(of: "target"), "must be organization, site, or root and size"
                )
            }
            self = .organization
        }
    }

    /// Appends the fields of its form.
    package func fields(to writer: inout JSONWriter) {
        switch self {
        case .organization: writer.field("organization", true)
        case .site(let site): writer.field("site", site)
        case .list(let root, let size):
            writer.field("root", Base64Bytes(root))
            writer.field("size", size)
        }
    }
}

/// Payload of an enrolment token: what a new device is told to trust and where it belongs.
package struct TokenPayload: WireObject, Equatable {
    /// The token's row, which only counts uses.
    package var id: EnrollmentTokenID
    /// Where the device will belong.
    package var partner: PartnerID
    package var site: SiteID
    /// How many devices may enrol with it.
    package var uses: Int
    /// SHA-256 of the root key, and of the public keys of the two CAs.
    package var rootKeyHash: Base64Bytes
    package var serverCAHash: Base64Bytes
    package var deviceCAHash: Base64Bytes

    /// A token's content.
    package init(
        id: EnrollmentTokenID, partner: PartnerID, site: SiteID, uses: Int, rootKeyHash: [UInt8],
        serverCAHash: [UInt8],
        deviceCAHash: [UInt8]
    ) {
        self.id = id
        self.partner = partner
        self.site = site
        self.uses = uses
        self.rootKeyHash = Base64Bytes(rootKeyHash)
        self.serverCAHash = Base64Bytes(serverCAHash)
        self.deviceCAHash = Base64Bytes(deviceCAHash)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        partner = try reader.field("partner")
        site = try reader.field("site")
        uses = try reader.field("uses", Int.self, .in(1...100_000))
        rootKeyHash = try reader.field("rootKeyHash", Base64Bytes.self, .in(32...32))
        serverCAHash = try reader.field("serverCAHash", Base64Bytes.self, .in(32...32))
        deviceCAHash = try reader.field("deviceCAHash", Base64Bytes.self, .in(32...32))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("partner", partner)
        writer.field("site", site)
        writer.field("uses", uses)
        writer.field("rootKeyHash", rootKeyHash)
        writer.field("serverCAHash", serverCAHash)
        writer.field("deviceCAHash", deviceCAHash)
    }
}

/// Payload of a key set: which keys may sign what. Signed by the root key; only a higher version replaces a
/// pinned one.
package struct KeySetPayload: WireObject, Equatable {
    /// Rises with every change.
    package var version: Int
    /// Public keys (32 bytes each) that sign jobs, assignments and tokens.
    package var jobKeys: [Base64Bytes]
    /// Certificates of the two CAs, PEM.
    package var serverCA: String
    package var deviceCA: String

    /// A set of keys.
    package init(version: Int, jobKeys: [[UInt8]], serverCA: String, deviceCA: String) {
        self.version = version
        self.jobKeys = jobKeys.map(Base64Bytes.init)
        self.serverCA = serverCA
        self.deviceCA = deviceCA
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        version = try reader.field("version", Int.self, .in(1...Int.max))
        jobKeys = try reader.field("jobKeys", [Base64Bytes].self, .in(1...16, elements: 32...32))
        serverCA = try reader.field("serverCA", String.self, .in(1...16_384))
        deviceCA = try reader.field("deviceCA", String.self, .in(1...16_384))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("version", version)
        writer.field("jobKeys", jobKeys)
        writer.field("serverCA", serverCA)
        writer.field("deviceCA", deviceCA)
    }
}

/// Payload of an assignment: where a device belongs. The agent pins it and judges targets against it.
package struct AssignmentPayload: WireObject, Equatable {
    /// The device, and SHA-256 of its public key's SPKI.
    package var device: DeviceID
    package var keyHash: Base64Bytes
    /// Where it belongs; the organization stands in the statement's header.
    package var partner: PartnerID
    package var site: SiteID
    /// Rises with every move.
    package var version: Int

    /// An assignment's content.
    package init(device: DeviceID, keyHash: [UInt8], partner: PartnerID, site: SiteID, version: Int) {
        self.device = device
        self.keyHash = Base64Bytes(keyHash)
        self.partner = partner
        self.site = site
        self.version = version
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        device = try reader.field("device")
        keyHash = try reader.field("keyHash", Base64Bytes.self, .in(32...32))
        partner = try reader.field("partner")
        site = try reader.field("site")
        version = try reader.field("version", Int.self, .in(1...Int.max))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("device", device)
        writer.field("keyHash", keyHash)
        writer.field("partner", partner)
        writer.field("site", site)
        writer.field("version", version)
    }
}
