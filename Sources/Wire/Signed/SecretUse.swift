package import Domain

/// A secret that a script is given, and how: as a variable of its environment, or as its standard input.
package struct SecretUse: WireObject, Equatable {
    /// Which secret: the nearest of this name, of the device's site, its organization, its partner or the
    /// platform.
    package var name: SecretName
    /// The variable that holds it; absent means standard input.
    package var environment: String?

    /// A use of a secret.
    package init(name: SecretName, environment: String?) {
        (self.name, self.environment) = (name, environment)
    }

    /// Reads the fields: one of `environment` and `stdin`.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name")
        environment = try reader.optional("environment", String.self, .in(1...128))
        let isInput: Bool = try reader.optional("stdin") ?? false
        guard !reader.isRecording else { return }
        if isInput == (environment != nil) {
            throw FieldError(
                .invalid, field: reader.name(of: "environment"),
                "exactly one of environment and \"stdin\": true must be given")
        }
        if let environment, let refusal = RefusedEnvironment.refusal(of: environment) {
            throw FieldError(.invalid, field: reader.name(of: "environment"), refusal)
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("environment", environment)
        if environment == nil { writer.field("stdin", true) }
    }
}

/// Which value of a secret a job is signed for: the agent takes this one and no other.
package struct SignedSecret: WireObject, Hashable {
    /// The secret, and its name in the script.
    package var id: SecretID
    package var name: SecretName
    /// Which of its values.
    package var version: Int
    /// SHA-256 over the value behind its salt.
    package var hash: Base64Bytes
    /// The site whose devices are given this one; absent means those of sites that have none of their own.
    package var site: SiteID?

    /// A value that was signed for.
    package init(id: SecretID, name: SecretName, version: Int, hash: [UInt8], site: SiteID?) {
        (self.id, self.name, self.version) = (id, name, version)
        (self.hash, self.site) = (Base64Bytes(hash), site)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        name = try reader.field("name")
        version = try reader.field("version", Int.self, .in(1...Int.max))
        hash = try reader.field("hash", Base64Bytes.self, .in(32...32))
        site = try reader.optional("site")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("version", version)
        writer.field("hash", hash)
        writer.field("site", site)
    }

    /// What a value is sealed to a device for, beside the device's key: it opens for this alone.
    package func sealedParts(
        deployment: DeploymentID, organization: OrganizationID, job: JobID, device: DeviceID
    ) -> [[UInt8]] {
        [
            Array("job".utf8), deployment.bytes, organization.bytes, job.bytes, device.bytes, id.bytes,
            Array(name.text.utf8), Array(String(version).utf8), hash.bytes,
        ]
    }
}

extension JobPayload {
    /// The values that the script's uses stand for on a device of a site, in their order; `nil` if the job
    /// was not signed for one of them.
    package func secrets(at site: SiteID) -> [SignedSecret]? {
        var found: [SignedSecret] = []
        for use in script?.secrets ?? [] {
            let named = secrets.filter { $0.name == use.name }
            guard
                let secret = named.first(where: { $0.site == site }) ?? named.first(where: { $0.site == nil })
            else { return nil }
            found.append(secret)
        }
        return found
    }
}
