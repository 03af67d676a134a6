import Client
import Domain
import Process
import Testing
import Wire

extension EndToEndTests {
    /// `cloudrmm demo seed` against an installation of its own.
    @Suite(.serialized) struct DemoSeedTests {
        private static let kinds = [
            "partners", "organizations", "sites", "roles", "users", "bindings", "devices", "jobs",
        ]

        private func seed(_ up: UpInstance, _ options: String...) async throws -> ToolResult {
            try await tool(
                try Binaries.path("cloudrmm"), ["demo", "seed", "--data-dir", up.data] + options)
        }

        /// What a run says that it made and found, by kind.
        private func counts(_ result: ToolResult) throws -> [String: [String: Int]] {
            let said = try JSON.parse(Array(try result.required().utf8))
            return try Self.kinds.reduce(into: [:]) { counts, kind in
                counts[kind] = try [String: Int].read(try #require(said[kind]), .none, field: kind)
            }
        }

        private func expect(_ result: ToolResult, made: [String: Int], of found: [String: Int] = [:]) throws {
            for (kind, count) in try counts(result) {
                #expect(count["made"] == made[kind, default: 0], "\(kind): \(count)")
                if let before = found[kind] { #expect(count["found"] == before, "\(kind): \(count)") }
            }
        }

        @Test(
            "it fills an installation once; what a run left out comes with the next; others' data stays"
        )
        func seeded() async throws {
            let up = try await UpInstance(Scratch())
            let api = up.api
            let tenancy = [
                "partners": 3, "organizations": 12, "sites": 30, "roles": 3, "users": 50, "bindings": 53,
            ]
            let fleet = ["devices": 40, "jobs": 48]
            let first = try await seed(up, "--devices", "0", "--invitations", "--output", "json")
            try expect(first, made: tenancy, of: ["devices": 0, "jobs": 0])
            try await letsIn(try JSON.parse(Array(first.output.utf8)), up)

            // Where a guard asks for it, the number of devices of a job is confirmed.
            for partner in try await api.partners().items {
                _ = try await api.edit(partner.id, NewGuardChanges(confirmAbove: 1))
            }
            let second = try await seed(up, "--devices", "40", "--output", "json")
            try expect(second, made: fleet, of: tenancy)
            try await looksRight(api)

            let again = try await seed(up, "--devices", "40", "--output", "json")
            try expect(again, made: [:], of: tenancy.merging(fleet) { $1 })
            try await looksRight(api)

            // As a run leaves it that is broken off between enrolling a device and describing it.
            let undone = try #require(try await all(api).first { $0.displayName != nil })
            let bare = try await enrolledAgain(undone, up)
            #expect(try await api.device(bare).tags.isEmpty)
            let more = try await seed(up, "--devices", "43")
            #expect(more.output.contains("WHAT") && more.output.contains("cloudrmm devices list"), "\(more)")
            #expect(try await all(api).count == 43)
            let described = try await api.device(bare)
            #expect(described.tags == undone.tags && described.customFields == undone.customFields)
            #expect(described.displayName == undone.displayName)

            _ = try await api.createPartner(NewPartner(name: "Somebody else"))
            let refused = try await seed(up, "--devices", "43")
            #expect(refused.exit == .exited(2) && refused.output.isEmpty, "\(refused)")
            #expect(
                refused.errors.contains("1 other partner, such as Somebody else")
                    && refused.errors.contains("--add"), "\(refused.errors)")
            let beside = try await seed(up, "--devices", "43", "--add", "--output", "json")
            try expect(beside, made: [:], of: ["partners": 3, "devices": 43, "jobs": 48])

            let partner = try #require(try await api.partners().items.first { $0.name.hasPrefix("Sample") })
            _ = try await api.archive(partner.id)
            let archived = try await seed(up, "--devices", "43", "--add")
            #expect(archived.exit == .exited(2), "\(archived)")
            #expect(archived.errors.contains("Sample IT Support is archived"), "\(archived.errors)")
            #expect(try await up.process.stop() == .exited(0))
        }

        private func all(_ api: APIClient) async throws -> [Device] {
            try await api.devices(PageOptions(limit: Limits.page.upperBound)).items
        }

        /// What somebody sees who looks.
        private func looksRight(_ api: APIClient) async throws {
            let devices = try await all(api)
            #expect(devices.count == 40 && Set(devices.map(\.siteId)).count == 30)
            #expect(devices.allSatisfy { !$0.online && $0.tags.count >= 2 && $0.version == 2 })
            #expect(devices.allSatisfy { $0.customFields["operatingSystem"]?.isEmpty == false })
            let organizations = try await api.organizations().items
            #expect(organizations.allSatisfy { $0.timeZone != nil && $0.contacts.count == 2 })
            #expect(try await api.partners().items.allSatisfy { $0.branding.accentColor != nil })
            let jobs = try await api.jobs(PageOptions(limit: Limits.page.upperBound)).items
            #expect(Set(jobs.map(\.kind)) == Set(JobKind.allCases) && jobs.count == 48)
            #expect(try await api.webhooks().items.isEmpty)
        }

        /// Invitations work, and let in to what the role is for and no more; nobody has a password before.
        private func letsIn(_ said: JSON, _ up: UpInstance) async throws {
            let links = try [String: String].read(
                try #require(said["invitations"]), .none, field: "invitations")
            #expect(links.count == 50)
            let nobody = APIClient(
                url: try #require(up.readiness["apiURL"]), key: nil,
                certificateAuthority: up.readiness["caCertificate"])
            let (email, password) = ("technician-2@example.org", "a phrase that nobody guesses")
            _ = await #expect(throws: Problem.self) {
                try await nobody.signIn(NewSession(email: email, password: password))
            }
            _ = try await nobody.accept(NewAcceptance(token: try #require(links[email]), password: password))
            let session = try await nobody.signIn(NewSession(email: email, password: password))
            let technician = APIClient(
                url: try #require(up.readiness["apiURL"]), key: session.token,
                certificateAuthority: up.readiness["caCertificate"])
            let seen = try await technician.organizations().items.map(\.name)
            #expect(seen.sorted() == ["Sample Museum", "Sample Primary School"])
        }

        /// Takes a device away and enrols one of its name in its place, which nobody has described.
        private func enrolledAgain(_ device: Device, _ up: UpInstance) async throws -> DeviceID {
            _ = try await up.api.edit(device.id, NewDeviceChanges(state: .archived))
            try await up.api.remove(device.id)
            let request = try await tool(
                "/usr/bin/openssl",
                [
                    "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout",
                    "/dev/null", "-subj", "/CN=cloudrmm-agent",
                ]
            ).required()
            let token = try await up.api.createEnrollmentToken(NewEnrollmentToken(siteId: device.siteId))
            return try await up.api.enroll(
                NewEnrollment(
                    token: token.token, request: request, hostname: device.hostname,
                    platform: device.platform, agentVersion: device.agentVersion, machineId: nil)
            ).deviceId
        }
    }
}
