import Wire

@testable import API

/// Every type that a route reads as its body.
private let bodyTypes: [any WireObject.Type] = [
    CancelRequest.self, ControlRequest.self, DeadLetterSelection.self, InteractiveBucket.self,
    NewAPIKey.self, NewApproval.self, NewBinding.self, NewCap.self, NewCode.self, NewDeviceChanges.self,
    NewDeviceCode.self, NewDeviceMove.self, NewDeviceSession.self, NewEnrollment.self,
    NewEnrollmentToken.self, NewErasure.self, NewGuardChanges.self, NewJob.self, NewJobs.self,
    NewAcceptance.self, NewOIDCLink.self, NewOIDCProvider.self, NewOIDCSession.self, NewOIDCSignIn.self,
    NewOrganization.self, NewOrganizationChanges.self, NewOrganizationMove.self, NewPartner.self,
    NewPartnerChanges.self, NewPassword.self, NewQuota.self, NewRetention.self, NewRole.self,
    NewRoleChanges.self, NewRotation.self, NewSecret.self, NewSecretValue.self, NewSession.self,
    NewSite.self, NewSiteChanges.self, NewSiteMove.self, NewUser.self, NewUserChanges.self,
    NewWebhook.self, NewWebhookChanges.self, NewWeight.self, OIDCLinkTarget.self, OIDCTerms.self,
    QueueLimits.self, ResumeRequest.self,
]

func checkBody(_ bytes: [UInt8]) {
    guard let text = accepted({ try JSONValue(scanning: bytes) }) else {
        promise(accepted { try JSON.parse(bytes) } == nil, "a tree is read of what is not well-formed")
        return
    }
    checkTree(bytes)
    for type in bodyTypes { checkObject(type, text) }
}

/// A tree of JSON that was read reads the same when it is written again.
func checkTree(_ bytes: [UInt8]) {
    guard let tree = accepted({ try JSON.parse(bytes) }) else { return }
    promise(accepted { try JSON.parse(tree.json) } == tree, "JSON that was read is written otherwise")
}

/// An object that was read says the same when it is written and read again.
func checkObject<Object: WireObject>(_: Object.Type, _ value: JSONValue) {
    guard let object = accepted({ try Object.read(value, .none) }) else { return }
    let written = object.json
    let again = accepted { try Object.decode(written) }
    promise(again != nil, "\(Object.self) refuses what it wrote: \(String(decoding: written, as: UTF8.self))")
    promise(again?.json == written, "\(Object.self) writes another text of what it wrote")
}
