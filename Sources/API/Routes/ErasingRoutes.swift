import Access
import Domain
import Engine
import HTTPTypes
import Hummingbird
import Ledger
import Logging
import NIOCore
import Wire

/// What takes parts of the tenancy out for good.
extension Handlers {
    var erasingRoutes: [Route] {
        erasing("organizations", "an organization", Level.organization)
            + erasing("partners", "a partner that has no organizations", Level.partner)
            + [
                .download(
                    "/v1/organizations/{id}/export",
                    "Exports all of an organization as a signed tar archive, of lines of JSON",
                    .permitted(.tenantsExport), "application/x-tar", respond: export),
                .delete(
                    "/v1/sites/{id}", "Deletes an archived site without devices", .permitted(.tenantsDelete)
                ) { call in
                    try await tenants.deleteSite(call.id(), version: call.version, level: call.level)
                    authenticator.forget()
                }.refusing(.conflict),
                .delete(
                    "/v1/devices/{id}", "Deletes an archived device; what its runs brought stays",
                    .permitted(.tenantsDelete)
                ) { call in
                    try await tenants.deleteDevice(call.id(), version: call.version, level: call.level)
                }.refusing(.conflict),
            ]
    }

    private func erasing<Subject>(
        _ rows: String, _ noun: String, _ level: @escaping @Sendable (ID<Subject>) -> Level
    ) -> [Route] {
        [
            .get(
                "/v1/\(rows)/{id}/erasure", "Counts what erasing \(noun) takes, or how far it has gone",
                .permitted(.tenantsDelete)
            ) { call in try await erasure(level(call.id()), call.id(ID<Subject>.self).value, call) },
            .post(
                "/v1/\(rows)/{id}/erase",
                "Erases \(noun) for good, once its name is said; it goes on after the answer",
                .permitted(.tenantsDelete), status: .accepted, takesIfMatch: true
            ) { (call: Call, new: NewErasure) in
                let id: ID<Subject> = try call.id()
                let target = level(id)
                let version = try await tenants.requireErasable(
                    target, name: new.name, version: call.version, level: call.level)
                try await roles.erase(target, name: new.name, version: version, by: call.principal)
                call.logger.notice("an erasure was asked for", metadata: ["tenant.id": "\(id)"])
                return try await erasure(target, id.value, call)
            }.refusing(.conflict),
        ]
    }

    private func erasure(_ target: Level, _ id: UniqueID, _ call: Call) async throws -> Erasure {
        let level = try call.level
        if let found = try await tenants.erasable(target, level: level) {
            return Erasure(
                id: ID(id), name: found.name, archived: found.isArchived,
                exportedAt: found.exportedVersion == found.version ? found.exportedAt : nil,
                rows: try await ledger.erasureCounts(target, scope: level.scope))
        }
        guard !level.includes(target),
            let row = try await ledger.erasure(id, scope: level.scope)
        else { throw AccessError.nothingHere }
        return Erasure(
            id: ID(id), name: row.name, archived: true, askedBy: row.askedBy, askedAt: row.askedAt,
            rows: row.counted, removed: row.removed)
    }

    @Sendable private func export(_ call: Call) async throws -> Reply {
        let organization: OrganizationID = try call.id()
        let level = try call.level
        // Whoever may export an organization may be of it: it is their own.
        guard let erasable = try await ledger.erasable(.organization(organization), scope: level.scope) else {
            throw AccessError.nothingHere
        }
        try await authenticator.checkReach(
            of: [.tenantsExport], on: .organization(organization), for: call.principal, evenArchived: true)
        let (exporter, scope) = (lifecycle.exporter, level.scope)
        let body = ResponseBody { writer in
            try await call.stream.consumeWithCancellationOnInboundClose { _ in
                var export = exporter.export(organization, erasable, scope: scope)
                while let piece = try await export.next() { try await writer.write(ByteBuffer(bytes: piece)) }
            }
            try await writer.finish(nil)
        }
        var headers: HTTPFields = [.contentType: "application/x-tar", .cacheControl: "no-store"]
        headers[.contentDisposition] = "attachment; filename=\"\(organization).tar\""
        return Reply(status: .ok, headers: headers, body: body)
    }
}
