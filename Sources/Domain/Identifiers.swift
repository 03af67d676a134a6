/// An identifier of one kind of thing: two kinds do not mix, though all are version 7 UUIDs.
package struct ID<Subject>: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The bare identifier.
    package let value: UniqueID

    /// The typed form of a bare identifier.
    package init(_ value: UniqueID) { self.value = value }

    /// The identifier of canonical text; `nil` for anything else.
    package init?(_ text: some StringProtocol) {
        guard let value = UniqueID(text) else { return nil }
        self.value = value
    }

    /// The identifier of canonical text in UTF-8; `nil` for anything else.
    package init?(text: Span<UInt8>) {
        guard let value = UniqueID(text: text) else { return nil }
        self.value = value
    }

    /// A new identifier that sorts by its instant.
    package static func new(at instant: Instant) -> ID { ID(UniqueID.v7(at: instant)) }

    /// The 16 bytes, most significant first.
    package var bytes: [UInt8] { value.bytes }

    /// Canonical lower-case text.
    package var description: String { value.description }

    /// By time of creation.
    package static func < (left: ID, right: ID) -> Bool { left.value < right.value }
}

/// What identifiers name. These types only tell kinds of `ID` apart.
package enum Subject {
    /// One installation of CloudRMM; its id is part of every signed statement.
    package enum Deployment {}
    /// A managed service provider.
    package enum Partner {}
    /// A customer of a partner: the tenant.
    package enum Organization {}
    /// A place of an organization.
    package enum Site {}
    /// A computer that runs an agent.
    package enum Device {}
    /// One request for work on a target.
    package enum Job {}
    /// A job on one device.
    package enum Run {}
    /// One incarnation of a gateway process.
    package enum Gateway {}
    /// The fencing token of one attempt.
    package enum Token {}
    /// An API key.
    package enum APIKey {}
    /// A person who signs in here.
    package enum User {}
    /// Who is calling: a key or a user.
    package enum Principal {}
    /// Somebody who has signed in.
    package enum Session {}
    /// An entry of the audit log.
    package enum AuditEntry {}
    /// A request to the API.
    package enum Request {}
    /// A link or code that lets somebody in once.
    package enum SignInLink {}
    /// A set of permissions with a name, made by a tenant.
    package enum Role {}
    /// A role given to a user on a level.
    package enum Binding {}
    /// An issuer of tokens.
    package enum OIDCProvider {}
    /// What a name of an issuer stands for.
    package enum OIDCLink {}
    /// A partner, an organization or a site, where a route says which.
    package enum Tenant {}
    /// An enrolment token.
    package enum EnrollmentToken {}
    /// A pause or a drain of an operator.
    package enum Control {}
    /// A role of one process, from its start to its end.
    package enum Worker {}
    /// A piece of work that runs on the platform itself.
    package enum Task {}
    /// A subscription to events.
    package enum Webhook {}
    /// A submission that waits for a second person.
    package enum Approval {}
    /// A job or what waits for approval, where only the state tells which.
    package enum Submission {}
    /// Something that has happened and that webhooks are told of.
    package enum WebhookEvent {}
    /// An event for a webhook.
    package enum WebhookDelivery {}
    /// A value with a name that scripts are given.
    package enum Secret {}
}

/// Names one installation.
package typealias DeploymentID = ID<Subject.Deployment>
/// Names a managed service provider.
package typealias PartnerID = ID<Subject.Partner>
/// Names a customer of a partner, the tenant.
package typealias OrganizationID = ID<Subject.Organization>
/// Names a place of an organization.
package typealias SiteID = ID<Subject.Site>
/// Names a computer that runs an agent.
package typealias DeviceID = ID<Subject.Device>
/// Names one request for work on a target.
package typealias JobID = ID<Subject.Job>
/// Names a job on one device.
package typealias RunID = ID<Subject.Run>
/// Names one incarnation of a gateway: a restarted process is another one.
package typealias GatewayID = ID<Subject.Gateway>
/// The fencing token of one attempt: drawn at its mark, named by every update that completes it.
package typealias AttemptToken = ID<Subject.Token>
/// Names an API key.
package typealias APIKeyID = ID<Subject.APIKey>
/// Names a person who signs in here.
package typealias UserID = ID<Subject.User>
/// Names who is calling, a key or a user: their ids are of one space.
package typealias PrincipalID = ID<Subject.Principal>
/// Names somebody's session.
package typealias SessionID = ID<Subject.Session>
/// Names an entry of the audit log.
package typealias AuditEntryID = ID<Subject.AuditEntry>
/// Names a request to the API.
package typealias RequestID = ID<Subject.Request>
/// Names a submission that waits for a second person.
package typealias ApprovalID = ID<Subject.Approval>
/// Names a link or code that lets somebody in once.
package typealias SignInLinkID = ID<Subject.SignInLink>
/// Names a set of permissions that a tenant made.
package typealias RoleID = ID<Subject.Role>
/// Names a role given to a user on a level.
package typealias BindingID = ID<Subject.Binding>
/// Names an issuer of tokens.
package typealias OIDCProviderID = ID<Subject.OIDCProvider>
/// Names what a name of an issuer stands for.
package typealias OIDCLinkID = ID<Subject.OIDCLink>
/// Names an enrolment token.
package typealias EnrollmentTokenID = ID<Subject.EnrollmentToken>
/// Names a pause or a drain of an operator.
package typealias ControlID = ID<Subject.Control>
/// Names a role of one process: a restarted one is another.
package typealias WorkerID = ID<Subject.Worker>
/// Names a piece of work that runs on the platform itself.
package typealias TaskID = ID<Subject.Task>
/// Names a subscription to events.
package typealias WebhookID = ID<Subject.Webhook>
/// Names something that has happened and that webhooks are told of.
package typealias WebhookEventID = ID<Subject.WebhookEvent>
/// Names an event for a webhook: the same however often it is sent.
package typealias WebhookDeliveryID = ID<Subject.WebhookDelivery>
/// Names a value that scripts are given, whichever of its versions.
package typealias SecretID = ID<Subject.Secret>
