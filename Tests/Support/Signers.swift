package import Domain
package import Engine
package import Trust

extension Signer {
    /// A signer with its first key set, whose root key nobody has any more.
    package static func made(
        deployment: DeploymentID, jobKey: SigningKey = SigningKey(), serverCA: Certificate,
        deviceCA: CertificateAuthority, rootKey: SigningKey = SigningKey(), others: [VerifyingKey] = [],
        version: Int = 1
    ) throws -> Signer {
        let keySet = keySet(
            version: version, jobKeys: others + [jobKey.publicKey], serverCA: serverCA,
            deviceCA: deviceCA.certificate, deployment: deployment, now: .now())
        return try Signer(
            deployment: deployment, rootKey: rootKey.publicKey, keySet: .sign(keySet, with: rootKey),
            jobKey: jobKey, serverCA: serverCA, deviceCA: deviceCA, now: .now())
    }
}
