/// The answer to an agent that has asked for another certificate.
package struct Renewed: WireObject, Equatable {
    /// The certificate, PEM.
    package var certificate: String?
    /// Why there is none, one sentence.
    package var refusal: String?

    /// A certificate, or why there is none.
    package init(certificate: String? = nil, refusal: String? = nil) {
        (self.certificate, self.refusal) = (certificate, refusal)
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        certificate = try reader.optional("certificate", String.self, .in(1...Limits.requestBytesMax))
        refusal = try reader.optional("refusal", String.self, .in(1...500))
        if !reader.isRecording, (certificate == nil) == (refusal == nil) {
            throw FieldError(
                .invalid, field: reader.name(of: "certificate"), "stands alone, or refusal does")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("certificate", certificate)
        writer.field("refusal", refusal)
    }
}

/// The body of `renew`.
struct Renew: WireObject {
    var request: String

    init(request: String) { self.request = request }

    init(from reader: inout FieldReader) throws(FieldError) {
        request = try reader.field("request", String.self, .in(1...Limits.requestBytesMax))
    }

    func fields(to writer: inout JSONWriter) { writer.field("request", request) }
}
