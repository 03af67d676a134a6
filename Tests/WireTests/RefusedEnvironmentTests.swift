import Testing
import Wire

@Suite struct RefusedEnvironmentTests {
    @Test(
        "what an interpreter or a library obeys, and what the agent says itself, is refused",
        arguments: [
            "HOME", "USER", "LOGNAME", "TMPDIR", "PATH", "ENV", "IFS", "GCONV_PATH", "GLIBC_TUNABLES",
            "OPENSSL_CONF", "OPENSSL_MODULES", "PERLLIB", "PERL5OPT", "PERL5LIB", "RUBYOPT", "RUBYLIB",
            "NODE_PATH", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS",
            "CLASSPATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "BASH_ENV",
            "BASH_LOADABLES_PATH", "GIT_SSH_COMMAND", "LUA_INIT", "XDG_CONFIG_HOME", "LESSOPEN",
            "CLOUDRMM_RUN", "CLOUDRMM_TOKEN",
        ])
    func refused(_ name: String) {
        #expect(RefusedEnvironment.refusal(of: name)?.hasPrefix("must not be set") == true)
    }

    @Test(
        "other names may be set",
        arguments: [
            "NAME", "_", "LANG", "TZ", "NODE_ENV", "JAVA_HOME", "HOMEPAGE", "USERNAME", "home", "LDAP_URL",
            "A1",
        ])
    func allowed(_ name: String) {
        #expect(RefusedEnvironment.refusal(of: name) == nil)
    }

    @Test("what is no name is refused", arguments: ["", "1A", "A-B", "A B", "ü", "A=B"])
    func noName(_ name: String) {
        #expect(RefusedEnvironment.refusal(of: name)?.hasPrefix("must be letters") == true)
    }
}
