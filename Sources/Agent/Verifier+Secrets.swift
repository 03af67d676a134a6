import Domain
import Trust
import Wire

extension Verifier {
    /// The job with the values that its script is given, opened with the device's key. Each must be the value
    /// whose hash was signed; refused as a whole if one is missing or another.
    func opened(
        _ job: VerifiedJob, of dispatch: Dispatch, with key: P256Key
    ) throws(Refusal) -> VerifiedJob {
        guard job.payload.script?.secrets.isEmpty == false else { return job }
        guard let wanted = job.payload.secrets(at: assignment.payload.site) else {
            throw Refusal(.secret, "the job was not signed for a secret of the device's site")
        }
        let sealed = dispatch.secrets ?? []
        guard sealed.count == wanted.count else {
            throw Refusal(.secret, "the job needs \(wanted.count) secrets, and \(sealed.count) came with it")
        }
        var job = job
        for (secret, sealed) in zip(wanted, sealed) {
            let parts = secret.sealedParts(
                deployment: deployment, organization: organization, job: job.payload.job, device: device)
            do throws(TrustError) {
                let salted = try SaltedSecret(
                    opened: DeviceSeal(bytes: sealed.bytes).open(with: key, for: parts))
                guard salted.has(hash: secret.hash.bytes) else {
                    throw TrustError(.badSeal, "it is another value than was signed for")
                }
                job.secrets.append(salted.secret)
            } catch {
                throw Refusal(.secret, "the secret \(secret.name) does not open: \(error.message)")
            }
        }
        return job
    }
}
