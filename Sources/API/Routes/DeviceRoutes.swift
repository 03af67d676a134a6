import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    var deviceRoutes: [Route] {
        [
            .get("/v1/devices", "Lists devices", .permitted(.devicesRead), respond: devices),
            .get("/v1/devices/{id}", "Shows a device", .permitted(.devicesRead)) { call in
                guard let row = try await ledger.device(call.id(), scope: call.scope) else {
                    throw Problem.notFound()
                }
                return try await shown(row)
            },
            .patch(
                "/v1/devices/{id}", "Edits what people say of a device, suspends, archives or restores it",
                .permitted(.devicesWrite)
            ) { (call: Call, changes: NewDeviceChanges) in
                let row = try await tenants.editDevice(call.id(), version: call.version, level: call.level) {
                    $0.apply(changes)
                }
                if changes.state != nil, row.state != .active {
                    // Work of a device that is only suspended waits for it.
                    try await lifecycle.closing.close(
                        row.id, of: row.organization, endingRuns: row.state == .archived)
                }
                return try await shown(row)
            }.refusing(.conflict),
            .get(
                "/v1/devices/{id}/certificates",
                "Lists the certificates that a device was issued, newest first",
                .permitted(.devicesRead)
            ) { call in
                try await certificates(found(await ledger.device(call.id(), scope: call.scope)))
            },
            .post(
                "/v1/devices/{id}/revoke",
                "Revokes a device's certificates for good: its session ends, and what was not sent to it; "
                    + "only a new enrolment, as another device, brings it back", .permitted(.tenantsArchive),
                status: .ok
            ) { call in
                let row = try found(await ledger.device(call.id(), scope: call.scope))
                try await authenticator.revoke(row.id)
                try await ledger.revokeCertificates(of: row.id)
                // Moved meanwhile, it is revoked where it is, and not shown where it was.
                let now = try found(await ledger.device(row.id, scope: call.scope))
                try await lifecycle.closing.close(now.id, of: now.organization, endingRuns: true)
                return try await certificates(now)
            },
        ]
    }

    private func certificates(_ device: DeviceRow) async throws -> Page<DeviceCertificate> {
        let rows = try await ledger.certificates(
            of: device.id, organization: device.organization, limit: Limits.page.upperBound)
        return Page(items: rows.map(DeviceCertificate.init), next: nil)
    }

    func shown(_ row: DeviceRow) async throws -> Device {
        try Device(row, isOnline: await presence.online([(row.organization, row.id)]).contains(row.id))
    }

    /// How many rows one request looks at when it filters by presence, which PostgreSQL does not know.
    private static var scannedMax: Int { 10_000 }

    /// Presence lives in Redis: pages are read and filtered until one is full or enough was looked at.
    @Sendable private func devices(_ call: Call, _ query: DeviceQuery) async throws -> Page<Device> {
        guard let wanted = query.online else {
            let rows = try await devices(
                after: query.page.cursor?.last, limit: query.page.limit + 1, query, call)
            let online = try await presence.online(rows.map { ($0.organization, $0.id) })
            return try query.page.page(rows, id: \.id.value) {
                try Device($0, isOnline: online.contains($0.id))
            }
        }
        var items: [Device] = []
        var last = query.page.cursor?.last
        var scanned = 0
        while scanned < Self.scannedMax {
            let rows = try await devices(after: last, limit: Limits.page.upperBound, query, call)
            let online = try await presence.online(rows.map { ($0.organization, $0.id) })
            for row in rows {
                last = row.id.value
                guard online.contains(row.id) == wanted else { continue }
                items.append(try Device(row, isOnline: wanted))
                if items.count == query.page.limit { break }
            }
            if rows.count < Limits.page.upperBound, last == rows.last?.id.value || rows.isEmpty {
                return Page(items: items, next: nil)
            }
            if items.count == query.page.limit { break }
            scanned += rows.count
        }
        return Page(items: items, next: last.map(Cursor.text))
    }

    private func devices(
        after last: UniqueID?, limit: Int, _ query: DeviceQuery, _ call: Call
    ) async throws -> [DeviceRow] {
        try await ledger.devices(
            query.filter, query.sorted.request(after: last, limit: limit), scope: call.scope)
    }
}

extension Device {
    init(_ row: DeviceRow, isOnline: Bool) throws {
        self.init(
            id: row.id, organizationId: row.organization, siteId: row.site, hostname: row.hostname,
            platform: row.platform,
            agentVersion: row.agentVersion, online: isOnline, lastSeenAt: row.lastSeenAt,
            offlineReason: isOnline || row.lastSeenAt == nil ? nil : row.departure.name,
            clockSkewMilliseconds: row.clockSkewMilliseconds,
            displayName: row.displayName, tags: row.tags,
            customFields: try [String: String].read(
                JSONValue(scanning: Array(row.customFields.utf8)), .none),
            state: row.state, version: row.version, createdAt: row.createdAt, updatedAt: row.updatedAt)
    }
}

extension DeviceCertificate {
    fileprivate init(_ row: CertificateRow) {
        self.init(
            serial: row.serial, expiresAt: row.expiresAt, revokedAt: row.revokedAt, createdAt: row.createdAt)
    }
}

extension DeviceRow {
    fileprivate mutating func apply(_ changes: NewDeviceChanges) {
        displayName = changes.displayName.applied(to: displayName)
        tags = changes.tags.applied(to: tags) ?? []
        switch changes.customFields {
        case .keep: break
        case .clear: customFields = "{}"
        case .set(let fields): customFields = fields.text
        }
        state = changes.state ?? state
    }
}
