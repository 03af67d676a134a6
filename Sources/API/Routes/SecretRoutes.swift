import Access
import Domain
import HTTPTypes
import Ledger
import Trust
import Wire

extension Handlers {
    /// Calls about secrets; none answers with a value.
    var secretRoutes: [Route] {
        [
            .post(
                "/v1/secrets", "Makes a secret that scripts can be given; no answer ever shows its value",
                .permitted(.secretsWrite)
            ) { (call: Call, new: NewSecret) in
                try Secret(
                    await secrets.create(
                        name: new.name.text, value: SecretBytes(Array(new.value.text.utf8)),
                        description: new.description, home: new.home.level, by: call.principal))
            }.refusing(.conflict),
            .get("/v1/secrets", "Lists the secrets that you may see", .permitted(.secretsRead)) {
                (call: Call, query: PageQuery) in
                try query.page(
                    await ledger.secrets(query.request, scope: call.scope), id: \.id.value, Secret.init)
            },
            .get("/v1/secrets/{id}", "Shows a secret, but for its value", .permitted(.secretsRead)) { call in
                try Secret(found(await ledger.secret(call.id(), scope: call.scope)))
            },
            .post(
                "/v1/secrets/{id}/rotate",
                "Gives a secret another value; jobs submitted before are still given the one before",
                .permitted(.secretsWrite), status: .ok, takesIfMatch: true
            ) { (call: Call, new: NewSecretValue) in
                try Secret(
                    await secrets.rotate(
                        call.id(), to: SecretBytes(Array(new.value.text.utf8)), version: call.version,
                        by: call.principal))
            }.refusing(.conflict),
            .delete(
                "/v1/secrets/{id}",
                "Takes a secret away; jobs that name it and have not been started fail",
                .permitted(.secretsWrite)
            ) { call in
                try await secrets.delete(call.id(), version: call.version, by: call.principal)
            }.refusing(.conflict),
        ]
    }
}

extension Secret {
    /// A row of secrets.
    init(_ row: SecretRow) throws {
        guard let name = SecretName(row.name) else {
            throw AccessError(.alteredRow, "the secret \(row.id) has a name that no secret can have")
        }
        self.init(
            id: row.id, name: name, description: row.description, home: Place(LevelColumns(row.home)),
            secretVersion: row.secretVersion, version: row.version, createdAt: row.createdAt,
            updatedAt: row.updatedAt)
    }
}
