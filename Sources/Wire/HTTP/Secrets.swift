package import Domain

/// The value of a secret on its way in: text of 8 to 16384 bytes, which no description of it shows.
package struct SecretValue: JSONReadable, JSONWritable, Equatable, CustomStringConvertible,
    CustomDebugStringConvertible, CustomReflectable
{
    /// The value.
    package let text: String

    /// A value of any length; what is read is judged.
    package init(_ text: String) { self.text = text }

    /// A value within its limit.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> SecretValue {
        SecretValue(try String.read(value, .in(Limits.secretBytes)))
    }

    /// A value.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "password", allowed: [], limit: .in(Limits.secretBytes))
    }

    /// Stands for any value.
    package static var placeholder: SecretValue { SecretValue("") }

    /// Appends the value.
    package func write(to writer: inout JSONWriter) { text.write(to: &writer) }

    /// That there is one.
    package var description: String { "(secret)" }

    /// That there is one.
    package var debugDescription: String { description }

    /// Nothing.
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Body that makes a secret.
package struct NewSecret: WireObject, Equatable {
    /// What it is called, once a level.
    package var name: SecretName
    /// What it is.
    package var value: SecretValue
    /// Shown to others.
    package var description: String
    /// Whose it is: the platform's, a partner's, an organization's or a site's.
    package var home: Place

    /// A secret to be made.
    package init(name: SecretName, value: SecretValue, description: String = "", home: Place = Place()) {
        (self.name, self.value, self.description, self.home) = (name, value, description, home)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name")
        value = try reader.field("value")
        description = try reader.optional("description", String.self, .in(Limits.secretTextBytes)) ?? ""
        home = try Place(from: &reader)
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("value", value)
        writer.field("description", description)
        home.fields(to: &writer)
    }
}

/// Body that gives a secret another value.
package struct NewSecretValue: WireObject, Equatable {
    /// What it is from now on.
    package var value: SecretValue

    /// Another value.
    package init(value: SecretValue) { self.value = value }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) { value = try reader.field("value") }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("value", value) }
}

/// A secret as shown: all but what it is.
package struct Secret: WireObject, Versioned, Equatable {
    /// Its id, what it is called, and what others see.
    package var id: SecretID
    package var name: SecretName
    package var description: String
    /// Whose it is.
    package var home: Place
    /// Which value it has, counted from 1.
    package var secretVersion: Int
    /// How often it was changed, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and got its value.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A secret.
    package init(
        id: SecretID, name: SecretName, description: String, home: Place, secretVersion: Int, version: Int,
        createdAt: Instant, updatedAt: Instant
    ) {
        (self.id, self.name, self.description, self.home) = (id, name, description, home)
        (self.secretVersion, self.version) = (secretVersion, version)
        (self.createdAt, self.updatedAt) = (createdAt, updatedAt)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        name = try reader.field("name")
        description = try reader.field("description")
        home = try Place(from: &reader)
        secretVersion = try reader.field("secretVersion")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("description", description)
        home.fields(to: &writer)
        writer.field("secretVersion", secretVersion)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}
