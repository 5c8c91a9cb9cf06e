package config

func extensionKeys() []Key {
	const (
		search = "extensions.search"
		trivy  = search + ".cve.trivy"
		sink   = "extensions.events.sinks[]"
	)
	return []Key{
		{Path: "extensions", Type: Object, Status: Built, Doc: "Optional features. A block that is there is on, unless it says \"enable\": false."},

		{Path: search, Type: Object, Status: Built, when: whenPresent, Doc: "GraphQL search."},
		{Path: search + ".enable", Type: Bool, Default: "true", when: never, Doc: "On if the block is there."},
		{Path: search + ".cve", Type: Object, when: whenPresent, Doc: "Vulnerability scanning, see docs/scanning.md. Read by berth and berth-scanner; berth-edge has no scanner in it and does not start."},
		{Path: search + ".cve.updateInterval", Type: Duration, Default: "2h", Doc: "How often the vulnerability database is renewed; at least 2h."},
		{Path: trivy, Type: Object, Doc: "Where vulnerability data comes from."},
		{Path: trivy + ".dbRepository", Type: String, Default: "ghcr.io/aquasecurity/trivy-db", Doc: "Repository of the vulnerability database: host/name[:tag], the tag 2 unless it is there; with http:// before it for a registry without TLS, and maybe user:password@ before the host. Empty: it is imported only."},
		{Path: trivy + ".javaDBRepository", Type: String, Status: Unneeded, Default: "ghcr.io/aquasecurity/trivy-java-db", Doc: "Jars tell what they are themselves."},
		{Path: trivy + ".vulnSeveritySources", Type: Strings, Default: "[\"auto\"]", Doc: "Whose severity counts, in order: names of Trivy's sources such as nvd or ghsa; auto is the source of the advisory, then others."},
		{Path: trivy + ".sbom", Type: Object, Doc: "Bill of materials, pushed as a referrer after a scan."},
		{Path: trivy + ".sbom.enable", Type: Bool, Default: "false", Doc: "Make one."},
		{Path: trivy + ".sbom.format", Type: String, Default: "spdx-json", Values: []string{"spdx-json", "cyclonedx"}, Doc: "Its format."},
		{Path: trivy + ".ignoreFile", Type: Path, Doc: "List of findings to leave out: a text with an ID in each line, maybe exp:YYYY-MM-DD behind it, and comments behind #. Read at the start."},

		{Path: "extensions.ui", Type: Object, Status: Warned, when: whenPresent, Doc: "The web UI."},
		{Path: "extensions.ui.enable", Type: Bool, Default: "true", when: never, Doc: "On if the block is there."},

		{Path: "extensions.metrics", Type: Object, when: whenPresent, Doc: "Prometheus metrics of the process, served by the gateway to anybody who reaches it."},
		{Path: "extensions.metrics.enable", Type: Bool, Default: "true", when: never, Doc: "On if the block is there."},
		{Path: "extensions.metrics.prometheus", Type: Object, Doc: "Where they are served."},
		{Path: "extensions.metrics.prometheus.path", Type: String, Default: "/metrics", Doc: "Path; neither / nor /v2, nor that of a probe."},

		{Path: "extensions.scrub", Type: Object, when: whenPresent, Doc: "Compare stored content with its digests in the background, and tell of what is damaged. Read by programs that run the metadata service."},
		{Path: "extensions.scrub.enable", Type: Bool, Default: "true", when: never, Doc: "On if the block is there."},
		{Path: "extensions.scrub.interval", Type: Duration, Default: "24h", Doc: "How often each blob is checked; at least 2h. A blob that was not checked for so long is checked while it is read; see storage.verifyReads."},
		{Path: "extensions.scrub.rate", Type: Int, Default: "20", Doc: "How many MB of blobs are read in a second for that at most; 0 is no limit."},

		{Path: "extensions.lint", Type: Object, Status: Built, when: whenEnabled, Doc: "Refuse pushes of images that lack annotations, see docs/policy.md. Read by gateways."},
		{Path: "extensions.lint.enable", Type: Bool, Default: "false", when: never, Doc: "On only if true."},
		{Path: "extensions.lint.mandatoryAnnotations", Type: Strings, Doc: "Annotations (or config labels) an image must have."},

		{Path: "extensions.trust", Type: Object, Status: Built, when: whenPresent, Doc: "Verify signatures, see docs/policy.md. Read by gateways."},
		{Path: "extensions.trust.enable", Type: Bool, Default: "true", when: never, Doc: "On if the block is there."},
		{Path: "extensions.trust.cosign", Type: Bool, Default: "false", Doc: "Cosign signatures."},
		{Path: "extensions.trust.notation", Type: Bool, Default: "false", Doc: "Notation signatures."},

		{Path: "extensions.gates", Type: List, Doc: "Which images can't be pulled, see docs/policy.md. Each entry that matches a repository holds. Read by gateways."},
		{Path: "extensions.gates[].repositories", Type: Strings, Doc: "Globs of repositories."},
		{Path: "extensions.gates[].severity", Type: String, Values: []string{"", "UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"}, Doc: "Block images that have a vulnerability as severe as this."},
		{Path: "extensions.gates[].onlyFixed", Type: Bool, Default: "false", Doc: "Only vulnerabilities count for which there is a fixed version."},
		{Path: "extensions.gates[].allow", Type: Strings, Doc: "Vulnerabilities that do not count, such as CVE-2024-3094."},
		{Path: "extensions.gates[].unknown", Type: String, Default: "allow", Values: []string{"allow", "deny"}, Doc: "What becomes of images whose vulnerabilities are not known (yet): allow lets them pass with a Warning header."},
		{Path: "extensions.gates[].signedBy", Type: String, Values: []string{"", "cosign", "notation", "any"}, Doc: "Block images without a trusted signature of this tool; needs extensions.trust."},
		{Path: "extensions.gates[].from", Type: String, Doc: "Day or time when the gate begins; until then images pass with a Warning header."},
		{Path: "extensions.gates[].except", Type: Strings, Doc: "Users, and groups as group:NAME, for whom the gate does not hold: those who sign."},

		{Path: "extensions.events", Type: Object, Status: Built, when: whenEnabled, Doc: "Tell others what happens, as CloudEvents, see docs/events.md. Read by programs that run the metadata service."},
		{Path: "extensions.events.enable", Type: Bool, Default: "false", when: never, Doc: "On only if true."},
		{Path: "extensions.events.sinks", Type: List, lax: true, Doc: "Receivers."},
		{Path: sink + ".type", Type: String, Values: []string{"http", "nats"}, Doc: "Kind of receiver."},
		{Path: sink + ".address", Type: URL, Doc: "Its URL."},
		{Path: sink + ".channel", Type: String, Doc: "NATS subject."},
		{Path: sink + ".timeout", Type: Duration, Default: "30s", Doc: "Time for one event."},
		{Path: sink + ".proxy", Type: URL, Doc: "HTTP proxy."},
		{Path: sink + ".headers", Type: SecretsT, Doc: "Further HTTP headers."},
		{Path: sink + ".credentials", Type: Object, Doc: "How we prove who we are."},
		{Path: sink + ".credentials.username", Type: String, Doc: "User name."},
		{Path: sink + ".credentials.password", Type: SecretT, Doc: "Password."},
		{Path: sink + ".credentials.file", Type: Path, Doc: "NATS credentials file."},
		{Path: sink + ".credentials.token", Type: SecretT, Doc: "Bearer token."},
		{Path: sink + ".secret", Type: SecretT, Doc: "Key that signs events towards http sinks (Standard Webhooks)."},
		{Path: sink + ".tlsConfig", Type: Object, Doc: "TLS towards the receiver."},
		{Path: sink + ".tlsConfig.caCertFile", Type: Path, Doc: "Authority, PEM."},
		{Path: sink + ".tlsConfig.certFile", Type: Path, Doc: "Our certificate, PEM."},
		{Path: sink + ".tlsConfig.keyFile", Type: Path, Doc: "Its key, PEM."},

		{Path: "extensions.mgmt", Type: Object, Status: Unneeded, when: whenPresent, Doc: "The management endpoint comes with search."},
		{Path: "extensions.mgmt.enable", Type: Bool, when: never, Doc: "No effect."},
		{Path: "extensions.userprefs", Type: Object, Status: Unneeded, when: whenPresent, Doc: "User preferences come with search and ui."},
		{Path: "extensions.userprefs.enable", Type: Bool, when: never, Doc: "No effect."},
		{Path: "extensions.apikey", Type: Object, Status: Unneeded, when: whenPresent, Doc: "API keys are turned on by http.auth.apikey."},
		{Path: "extensions.apikey.enable", Type: Bool, when: never, Doc: "No effect."},
	}
}

func syncKeys() []Key {
	const (
		reg   = "extensions.sync.registries[]"
		oauth = reg + ".oauth2CredentialHelper"
	)
	return []Key{
		{Path: "extensions.sync", Type: Object, Status: Built, when: whenPresent, Doc: "Mirror other registries. Read by programs that run the syncer."},
		{Path: "extensions.sync.enable", Type: Bool, Default: "true", when: never, Doc: "On if the block is there."},
		{Path: "extensions.sync.credentialsFile", Type: Path, Doc: "JSON file of upstream host to username and password."},
		{Path: "extensions.sync.downloadDir", Type: Path, Doc: "Where blobs are while they are being fetched; <storage.rootDirectory>/.berth/sync when absent. What is there survives restarts."},
		{Path: "extensions.sync.registries", Type: List, Doc: "Upstreams, asked in this order."},
		{Path: reg + ".urls", Type: Strings, Doc: "The upstream, then its mirrors."},
		{Path: reg + ".onDemand", Type: Bool, Default: "false", Doc: "Fetch what clients ask for."},
		{Path: reg + ".pollInterval", Type: Duration, Doc: "Copy what content selects this often; needs content."},
		{Path: reg + ".manifestCheckInterval", Type: Duration, Doc: "How long a tag is trusted before upstream is asked again; a minute when absent. Needs onDemand."},
		{Path: reg + ".content", Type: List, Doc: "What is mirrored; absent is everything, on demand only."},
		{Path: reg + ".content[].prefix", Type: String, Doc: "Glob of upstream repository names."},
		{Path: reg + ".content[].destination", Type: String, Doc: "Where they go here."},
		{Path: reg + ".content[].stripPrefix", Type: Bool, Default: "false", Doc: "Drop the fixed part of the prefix from the local name."},
		{Path: reg + ".content[].tags", Type: Object, Doc: "Tags to copy; polling only."},
		{Path: reg + ".content[].tags.regex", Type: String, Doc: "Tags that match."},
		{Path: reg + ".content[].tags.excludeRegex", Type: String, Doc: "Except these."},
		{Path: reg + ".content[].tags.semver", Type: Bool, Default: "false", Doc: "Only semantic versions."},
		{Path: reg + ".tlsVerify", Type: Bool, Default: "true", Doc: "Check the upstream's certificate."},
		{Path: reg + ".certDir", Type: Path, Doc: "Directory of *.crt authorities and a *.cert, *.key pair."},
		{Path: reg + ".maxRetries", Type: Int, Doc: "Further attempts; needs retryDelay."},
		{Path: reg + ".retryDelay", Type: Duration, Doc: "Time before the next attempt."},
		{Path: reg + ".maxRetryDelay", Type: Duration, Doc: "What it may grow to; retryDelay when absent."},
		{Path: reg + ".onlySigned", Type: Bool, Default: "false", Doc: "Skip images without a signature. That there is one is looked at, not whose it is. Not together with onDemand."},
		{Path: reg + ".syncLegacyCosignTags", Type: Bool, Default: "true", Doc: "Copy sha256-….sig, .sbom and .att tags, too."},
		{Path: reg + ".preserveDigest", Type: Bool, Default: "false", Status: Unneeded, Doc: "Mirrored content always keeps its digest."},
		{Path: reg + ".credentials", Type: Object, Doc: "User of the upstream."},
		{Path: reg + ".credentials.username", Type: String, Doc: "User name."},
		{Path: reg + ".credentials.password", Type: SecretT, Doc: "Password."},
		{Path: reg + ".credentials.passwordFile", Type: Path, Doc: "File that holds the password."},
		{Path: reg + ".credentialHelper", Type: String, Status: Refused, Values: []string{"", "ecr", "gcp", "oauth2"}, Doc: "Where credentials that expire come from."},
		{Path: oauth, Type: Object, Status: Refused, Doc: "Exchange an assertion for a token."},
		{Path: oauth + ".tokenURL", Type: URL, Doc: "Token endpoint."},
		{Path: oauth + ".assertionFile", Type: Path, Doc: "File with the assertion; this or signingFile."},
		{Path: oauth + ".signingFile", Type: Path, Doc: "Key that signs an assertion."},
		{Path: oauth + ".grantType", Type: String, Default: "client_credentials", Doc: "client_credentials, or the URN of jwt-bearer or token-exchange."},
		{Path: oauth + ".clientID", Type: String, Doc: "Client id."},
		{Path: oauth + ".clientSecretFile", Type: Path, Doc: "File with the client secret."},
		{Path: oauth + ".scopes", Type: Strings, Doc: "Scopes to ask for."},
		{Path: oauth + ".username", Type: String, Default: "<token>", Doc: "User name to send the token with."},
		{Path: oauth + ".audience", Type: String, Doc: "Audience; needed for a token exchange."},
		{Path: oauth + ".subjectTokenType", Type: String, Doc: "URI of the assertion's type."},
		{Path: oauth + ".requestedTokenType", Type: String, Doc: "URI of the type to ask for."},
		{Path: reg + ".syncTimeout", Type: Duration, Default: "3h", Doc: "Limit of one image."},
		{Path: reg + ".responseHeaderTimeout", Type: Duration, Default: "30s", Doc: "How long upstream may take to begin an answer."},
		{Path: reg + ".reqConcurrent", Type: Int, Default: "3", Doc: "Requests at a time that polling makes, per host. Clients that wait are not held back by it."},
		{Path: reg + ".reqPerSec", Type: Float, Doc: "Requests per second; absent is no limit."},
		{Path: reg + ".disableHTTP2", Type: Bool, Default: "false", Doc: "Speak HTTP/1.1 only."},
		{Path: reg + ".maxIdleConnsPerHost", Type: Int, Doc: "Idle connections kept; when absent 2, or reqConcurrent if disableHTTP2."},
		{Path: reg + ".platforms", Type: Strings, Doc: "Platforms of an index that polling copies, such as linux/amd64; absent is all. On demand only what clients ask for is fetched."},
		{Path: reg + ".downloadRate", Type: String, Doc: "Limit in bytes per second, such as 2MB."},
		{Path: reg + ".localPushes", Type: String, Default: "allow", Values: []string{"allow", "deny"}, Doc: "What a push into a mirrored repository means: allow takes it, and nothing is fetched into that repository from then on; deny refuses it."},
		{Path: reg + ".stream", Type: Bool, Default: "true", Status: Unneeded, Doc: "Content is always passed on while it arrives."},
	}
}
