/// Somebody to be asked about an organization or a site.
package struct Contact: WireObject, Equatable {
    /// How many an organization or a site has at the most.
    package static let countMax = 20

    /// Who it is.
    package var name: String
    /// What the person does there.
    package var role: String?
    /// How to reach the person.
    package var email: String?
    package var phone: String?

    /// A contact.
    package init(name: String, role: String? = nil, email: String? = nil, phone: String? = nil) {
        self.name = name
        self.role = role
        self.email = email
        self.phone = phone
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        role = try reader.optional("role", String.self, .in(Limits.nameBytes))
        email = try reader.optional("email", EmailAddress.self)?.text
        phone = try reader.optional("phone", String.self, .in(1...64))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("role", role)
        writer.field("email", email)
        writer.field("phone", phone)
    }
}
