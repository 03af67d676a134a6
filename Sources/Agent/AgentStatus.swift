import Domain
import Trust
package import Wire

/// What `cloudrmm-agent status` shows.
package struct AgentStatus: JSONWritable, Sendable {
    private let identity: Identity
    private let pid: Int32?
    private let waitingResults: Int
    private let path: String

    /// Reads a directory, whose agent may be running.
    package init(_ directory: DataDirectory) throws {
        identity = try directory.load()
        pid = try directory.runningAgent()
        waitingResults = directory.waitingResults()
        path = directory.path
    }

    private var certificateExpiresAt: Instant { Instant(seconds: identity.certificate.notAfter) }

    /// Lines for people.
    package var text: String {
        let verifier = identity.verifier
        let versions =
            "key set \(verifier.keySet.payload.version), assignment \(verifier.assignment.payload.version)"
        let lines: [(name: String, value: String)] = [
            ("device", verifier.device.description),
            ("organization", verifier.organization.description),
            ("site", verifier.assignment.payload.site.description),
            ("gateway", identity.gatewayURL),
            ("agent", pid.map { "running, process \($0)" } ?? "not running"),
            ("certificate", "valid until \(certificateExpiresAt)"),
            ("statements", versions),
            ("results", "\(waitingResults) waiting for the server"),
            ("directory", path),
        ]
        return lines.map { "\($0.name):" + String(repeating: " ", count: 14 - $0.name.count) + $0.value }
            .joined(separator: "\n")
    }

    /// The same as one object.
    package func write(to writer: inout JSONWriter) {
        let verifier = identity.verifier
        writer.object { writer in
            writer.field("deviceId", verifier.device)
            writer.field("organizationId", verifier.organization)
            writer.field("siteId", verifier.assignment.payload.site)
            writer.field("deploymentId", verifier.deployment)
            writer.field("gatewayUrl", identity.gatewayURL)
            writer.field("running", pid != nil)
            writer.field("pid", pid.map(Int.init))
            writer.field("certificateExpiresAt", certificateExpiresAt)
            writer.field("keySetVersion", verifier.keySet.payload.version)
            writer.field("assignmentVersion", verifier.assignment.payload.version)
            writer.field("waitingResults", waitingResults)
            writer.field("agentVersion", EnrolledAgent.version)
        }
    }
}
