import Client
import Domain
import Trust
import Wire

/// Enrols devices as their agents would, with keys that are made on the spot and thrown away: what is left is
/// a device like any other, whose agent never comes back.
struct DemoEnroller: Sendable {
    let api: APIClient

    /// Enrols one by a token, and says of it what people would.
    func enrol(_ device: DemoDevice, by token: String) async throws -> DeviceID {
        let made = try await api.enroll(
            NewEnrollment(
                token: token, request: try P256Key().certificateRequest(commonName: "cloudrmm-agent"),
                hostname: device.hostname, platform: device.platform, agentVersion: device.agentVersion,
                machineId: device.machineID))
        try await describe(made.deviceId, device)
        return made.deviceId
    }

    /// Says of a device that is enrolled what people would.
    func describe(_ id: DeviceID, _ device: DemoDevice) async throws {
        _ = try await api.edit(
            id,
            NewDeviceChanges(
                displayName: device.displayName.map { .set($0) } ?? .keep, tags: .set(device.tags),
                customFields: .set(device.customFields), state: device.isSuspended ? .suspended : nil))
    }
}
