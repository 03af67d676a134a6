/// The query of a retry.
package struct RetryQuery: WireObject, Equatable {
    /// How many devices it reaches, exactly: asked for where it reaches many.
    package var confirmDevices: Int?

    /// A retry.
    package init(confirmDevices: Int? = nil) { self.confirmDevices = confirmDevices }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        confirmDevices = try reader.optional("confirmDevices", Int.self, .in(Limits.confirmedDevices))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("confirmDevices", confirmDevices) }
}
