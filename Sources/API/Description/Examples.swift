import Domain
import Trust
import Wire

/// Examples of values, made from their shapes and names: what people copy, and what testers begin with.
///
/// An example of a body is one that the call takes: those whose rules go beyond the shape of their fields
/// stand in a table. An example of an answer has every field.
enum Examples {
    private static let id = "019a7b3c-5d2e-7f10-8a4b-2c6d8e0f1a3b"

    /// The id of a request.
    static let requestID = id

    /// A body that a call takes.
    static func body(_ shape: Shape) -> JSON {
        guard case .object(let name, let fields) = shape else { return value(shape, "", required: true) }
        if let text = bodies[name], let body = try? JSON.parse(Array(text.utf8)) {  // a test reads each
            return body
        }
        return object(name, fields.filter(\.isRequired), required: true)
    }

    /// An answer with every field.
    static func answer(_ shape: Shape) -> JSON { value(shape, "", required: false) }

    /// A value of a parameter.
    static func parameter(_ field: Shape.Field) -> JSON {
        parameters[field.name].map(JSON.string) ?? value(field.shape, field.name, required: true)
    }

    private static func value(_ shape: Shape, _ name: String, required: Bool) -> JSON {
        switch shape {
        case .string(let format, let allowed, let limit):
            .string(allowed.first ?? format.flatMap { formats[$0] } ?? word(name, limit))
        case .integer(let limit): .integer(number(name, limit))
        case .number: .number(name == "share" || name == "entitlement" ? 0.25 : 1.5)
        case .boolean: .bool(trueNames.contains(name))
        case .array(let element, _): .array([value(element, name, required: required)])
        case .map(let element):
            .object([
                JSONMember(name: keys[name] ?? "key", value: value(element, name, required: required))
            ])
        case .object(let name, let fields):
            object(name, required ? fields.filter(\.isRequired) : fields, required: required)
        case .any: .object([])
        }
    }

    private static func object(_ name: String, _ fields: [Shape.Field], required: Bool) -> JSON {
        let names = Set(fields.map(\.name))
        // Of the levels of the tenancy a place names one.
        let isPlace = names.isSuperset(of: ["partnerId", "organizationId", "siteId"])
        return .object(
            fields.compactMap { field in
                if isPlace, field.name == "partnerId" || field.name == "siteId" { return nil }
                let name = name == "BulkItem" ? "bulk.\(field.name)" : field.name
                return JSONMember(
                    name: field.name, value: value(field.shape, name, required: required))
            })
    }

    private static func number(_ name: String, _ limit: FieldLimit) -> Int64 {
        let wanted = numbers[name] ?? 1
        guard let range = limit.range else { return Int64(wanted) }
        return Int64(min(max(wanted, range.lowerBound), range.upperBound))
    }

    /// Of parameters whose words are not in their shape.
    private static let parameters = ["reason": "attempts"]

    private static func word(_ name: String, _ limit: FieldLimit) -> String {
        let wanted = words[name] ?? "text"
        guard let range = limit.range else { return wanted }
        let padding = String(repeating: "x", count: max(0, range.lowerBound - wanted.utf8.count))
        return String((wanted + padding).prefix(range.upperBound))
    }

    private static let formats = [
        "uuid": id, "date-time": "2026-03-01T12:00:00.000000Z", "email": "tess@example.com",
        "uri": "https://example.com/", "byte": "3q2+7w==",
        Cursor.format: Cursor.text(after: UniqueID(id) ?? .zero),
        QueueCursor.format: QueueCursor.example(UniqueID(id) ?? .zero),
    ]

    private static let trueNames: Set<String> = [
        "online", "ready", "exact", "database", "done", "current", "parts", "dryRun",
    ]

    /// What stands in for the names of an object of any names.
    private static let keys = [
        "counts": "queued", "parts": "database", "customFields": "room", "env": "LANG", "tasks": "held",
    ]

    private static let numbers = [
        "timeoutSeconds": 300, "expiresInSeconds": 604_800, "overlapSeconds": 86_400, "status": 422,
        "bulk.status": 202, "limit": 50, "weight": 1, "version": 1, "days": 90, "burst": 100,
        "openRuns": 1_000_000, "openBytes": 1 << 30, "statusCode": 204, "latencyMilliseconds": 40,
        "maximumAttempts": 3, "backoffSeconds": 10, "maximumBackoffSeconds": 600, "intervalSeconds": 2,
        "exitCode": 0, "retryAfterSeconds": 30, "processId": 4_711, "stdoutBytes": 6, "stderrBytes": 0,
    ]

    private static let words = [
        "name": "Vienna", "code": "invalid", "title": "Unprocessable Content", "field": "timeoutSeconds",
        "detail": "timeoutSeconds: is 0; allowed are 1 to 86400", "hostname": "vie-ws-014",
        "displayName": "Reception", "platform": "linux", "agentVersion": "1.0.0", "timeZone": "Europe/Vienna",
        "tag": "kiosk", "tags": "kiosk", "search": "vie", "action": "jobs", "kind": "retention",
        "permissions": "devices:read", "permission": "devices:read", "level": "organizations",
        "role": "technician", "email": "tess@example.com", "supportEmail": "help@example.com",
        "accentColor": "#0a7f5c", "reason": "stopped by an operator", "sentence": "It waits for its device.",
        "key": "crmm_…", "prefix": "crmm_ab12", "secret": "…", "token": "…", "csrfToken": "…", "next": "…",
        "uri": "otpauth://totp/CloudRMM:tess@example.com?secret=…", "codes": "8f3k-2m9q",
        "deviceCode": "…", "userCode": "BCDF-GHJK", "agent": "cloudrmm 1.0", "address": "192.0.2.7",
        "password": "correct horse battery", "current": "correct horse battery", "stdout": "hello\n",
        "stderr": "", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "url": "https://example.com/hooks", "host": "app-1", "phone": "+43 1 234567", "body": "echo hello\n",
        "logoUrl": "https://example.com/logo.png", "supportUrl": "https://example.com/help",
        "supportPhone": "+43 1 234567", "before": "{}", "after": "{}", "actor": "user",
        "requestId": id, "gatewayUrl": "wss://gateway.example.com", "customFields": "2.14",
        "description": "tickets", "machineId": "4c4c4544-0042", "certificate": "-----BEGIN CERTIFICATE-----…",
    ]

    /// Bodies whose rules are not their fields' alone.
    private static let bodies = [
        "NewJob": #"""
        {"kind":"script","target":{"deviceIds":["\#(id)"]},"timeoutSeconds":300,
        "script":{"interpreter":"sh","body":"echo hello\n"}}
        """#,
        "NewJobs": #"{"jobs":[{"kind":"ping","target":{"deviceIds":["\#(id)"]}}]}"#,
        "CancelRequest": #"{"organizationId":"\#(id)","kind":"script","dryRun":true}"#,
        "ControlRequest": #"{"organizationId":"\#(id)","kind":"script","reason":"maintenance"}"#,
        "ResumeRequest": #"{"organizationId":"\#(id)","kind":"script"}"#,
        "DeadLetterSelection": #"{"organizationId":"\#(id)","dryRun":true}"#,
        "NewAPIKey": #"{"name":"backup","organizationId":"\#(id)","permissions":["devices:read"]}"#,
        "NewUser": #"{"email":"tess@example.com","name":"Tess","organizationId":"\#(id)"}"#,
        "NewUserChanges": #"{"name":"Tess"}"#,
        "NewRole": #"{"name":"helpdesk","permissions":["devices:read"],"organizationId":"\#(id)"}"#,
        "NewRoleChanges": #"{"name":"helpdesk","permissions":["devices:read","jobs:read"]}"#,
        "NewBinding": #"{"userId":"\#(id)","role":"technician","organizationId":"\#(id)"}"#,
        "NewWebhook": #"""
        {"url":"https://example.com/hooks","events":["job.ended"],"organizationId":"\#(id)"}
        """#,
        "NewWebhookChanges": #"{"events":["job.ended","device.enrolled"]}"#,
        "NewCap": #"{"cap":100}"#,
        "NewQuota": #"{"openRuns":1000000}"#,
        "NewRetention": #"{"days":90}"#,
        "NewPartnerChanges": #"{"name":"Example","branding":{"displayName":"Example"}}"#,
        "NewOrganizationChanges": #"""
        {"name":"Vienna","timeZone":"Europe/Vienna","contacts":[{"name":"Tess","email":"tess@example.com"}]}
        """#,
        "NewSiteChanges": #"{"name":"Reception","timeZone":"Europe/Vienna"}"#,
        "NewDeviceChanges": #"{"displayName":"Reception","tags":["kiosk"],"customFields":{"room":"2.14"}}"#,
        "QueueLimits": #"{"limits":[{"scope":"kind","key":"script","running":10}]}"#,
        "InteractiveBucket": #"{"perMinute":600,"burst":100}"#,
        "NewErasure": #"{"name":"Vienna"}"#,
        "NewSecret": #"{"name":"backup_key","value":"correct horse","organizationId":"\#(id)"}"#,
        "NewGuardChanges": #"{"confirmAbove":100,"approveAbove":1000}"#,
        "NewRotation": #"{"overlapSeconds":86400}"#,
        "NewOIDCProvider": #"""
        {"issuer":"https://login.example.com","name":"Example","organizationId":"\#(id)",
        "audiences":["cloudrmm"]}
        """#,
        "OIDCTerms": #"{"audiences":["cloudrmm"]}"#,
        "NewOIDCLink": #"{"providerId":"\#(id)","external":"user_1","userId":"\#(id)"}"#,
        "OIDCLinkTarget": #"{"role":"technician"}"#,
        "NewOIDCSignIn": #"{"providerId":"\#(id)","redirectUrl":"https://rmm.example.com/signed-in"}"#,
    ]
}
