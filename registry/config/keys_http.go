package config

func httpKeys() []Key {
	return []Key{
		{Path: "http", Type: Object, Status: Built, Doc: "The registry's HTTP side. Read by programs that run the gateway."},
		{Path: "http.address", Type: String, Default: "127.0.0.1", Doc: "Host name or IP address to listen on, or unix:PATH for a socket of mode 0600. The default is reachable from this machine only."},
		{Path: "http.port", Type: String, Default: "8080", Doc: "Port number or service name; \"0\" or \"\" is any free port, which the log names. Not for sockets."},
		{Path: "http.compat", Type: Strings, Values: []string{Docker}, Doc: "Foreign image types that may be pushed. Absent: Docker's too. Present without docker2s2: OCI only."},
		{Path: "http.readTimeout", Type: Duration, Default: "1m", Doc: "How long a client may send nothing in the middle of a request; 0 or less is for ever. The whole transfer has no limit, but the body of a login, a search or a request to the REST API has to come within this time."},
		{Path: "http.writeTimeout", Type: Duration, Default: "1m", Doc: "How long a client may accept nothing of an answer; 0 or less is for ever. The whole transfer has no limit."},
		{Path: "http.uploadsPerClient", Type: Int, Default: "1000", Doc: "How many requests with a body one client may be sending at a time; more get 429. A client is a user, an IPv4 address or an IPv6 network of 64 bits; all that comes through one proxy without credentials is one. 0 is no limit."},
		{Path: "http.openUploads", Type: Int, Default: "1000", Doc: "How many uploads one client may have begun and neither finished nor cancelled, over all gateways; more get 429. Uploads that nobody touches end after a day. 0 is no limit."},
		{Path: "http.realm", Type: String, Default: "", Doc: "Realm of the Basic challenge."},
		{Path: "http.externalUrl", Type: URL, Status: Built, Doc: "Where clients reach the registry: used in token challenges and login callbacks, never the Host header."},
		{Path: "http.allowOrigin", Type: String, Doc: "Origins whose scripts may read answers in a browser, divided by commas. Absent: any."},

		{Path: "http.tls", Type: Object, Doc: "Serve HTTPS, with TLS 1.2 or later. A certificate whose files change serves the next connection."},
		{Path: "http.tls.cert", Type: Path, Doc: "Certificate chain, PEM."},
		{Path: "http.tls.key", Type: Path, Doc: "Its private key, PEM."},
		{Path: "http.tls.cacert", Type: Path, Doc: "Authorities of client certificates, PEM; certificates are checked if clients send one, and name the user: see http.auth.mtls. Who shows none needs another method of authentication."},

		{Path: "http.ratelimit", Type: Object, Doc: "Answer 429 to a client that asks for more. A client is a user, or without credentials an IPv4 address or an IPv6 network of 64 bits; wrong credentials count for the address. Probes don't count."},
		{Path: "http.ratelimit.rate", Type: Int, Doc: "Requests per second of one client; 0 is no limit. A second's worth may come at once."},
		{Path: "http.ratelimit.concurrent", Type: Int, Doc: "Requests of one client in progress at a time; 0 is no limit."},
		{Path: "http.ratelimit.methods", Type: List, Doc: "Limits by method, which hold besides rate."},
		{Path: "http.ratelimit.methods[].method", Type: String, Doc: "HTTP method."},
		{Path: "http.ratelimit.methods[].rate", Type: Int, Doc: "Its requests per second."},

		{Path: "http.connections", Type: Object, Doc: "How many connections there may be."},
		{Path: "http.connections.max", Type: Int, Doc: "In all. One more takes the place of the one that waits longest for its client to send a request, or waits if there is none. 0 or absent: by the file descriptors of the process; -1: any number."},
		{Path: "http.connections.perAddress", Type: Int, Doc: "From one IPv4 address or IPv6 network of 64 bits; more are closed. 0 is no limit. Behind a proxy all have its address."},
	}
}

func accessKeys() []Key {
	return append([]Key{
		{Path: "http.accessControl", Type: Object, Status: Built, when: whenPresent, Doc: "Who may do what. Absent: whoever gets past authentication may do everything. Read by programs that run the metadata service, too."},
		{Path: "http.accessControl.repositories", Type: Map, Doc: "By glob of repository names; only the longest glob that matches counts."},
		{Path: "http.accessControl.repositories.*", Type: Object, Doc: "What one glob grants."},
		{Path: "http.accessControl.repositories.*.policies", Type: List, Doc: "Grants to users and groups."},
		{Path: "http.accessControl.repositories.*.defaultPolicy", Type: Strings, Values: actions(), Doc: "Actions of every authenticated user."},
		{Path: "http.accessControl.repositories.*.anonymousPolicy", Type: Strings, Values: actions(), Doc: "Actions of clients without credentials, and of those only."},
		{Path: "http.accessControl.adminPolicy", Type: Object, Doc: "Grants for all repositories."},
		{Path: "http.accessControl.groups", Type: Map, Doc: "Static groups, by name; letter case does not count."},
		{Path: "http.accessControl.groups.*", Type: Object, Doc: "One group."},
		{Path: "http.accessControl.groups.*.users", Type: Strings, Doc: "Its members."},
		{Path: "http.accessControl.metrics", Type: Object, Doc: "Who may read metrics."},
		{Path: "http.accessControl.metrics.users", Type: Strings, Doc: "These users."},
		{Path: "http.accessControl.metrics.anonymousPolicy", Type: Strings, Values: actions(), Doc: "\"read\" lets everybody."},
	}, append(
		policyKeys("http.accessControl.repositories.*.policies[]"),
		policyKeys("http.accessControl.adminPolicy")...)...)
}

func actions() []string {
	return []string{"read", "create", "update", "delete", "detectManifestCollision"}
}

func policyKeys(at string) []Key {
	return []Key{
		{Path: at + ".users", Type: Strings, Doc: "User names."},
		{Path: at + ".groups", Type: Strings, Doc: "Group names: static ones, or those of LDAP, OpenID or a token."},
		{Path: at + ".actions", Type: Strings, Values: actions(), Doc: "What they may do."},
		{Path: at + ".conditions", Type: List, Doc: "All must hold for the policy to grant."},
		{Path: at + ".conditions[].expression", Type: String, Doc: "CEL expression over req, user, client, tls and claims."},
		{Path: at + ".conditions[].message", Type: String, Doc: "What a client is told when it does not hold."},
	}
}

func logKeys() []Key {
	return []Key{
		{Path: "log", Type: Object, Status: Built, Doc: "The program's own log, in JSON lines."},
		{Path: "log.level", Type: String, Default: "debug", Values: []string{"debug", "info", "warn", "error", "fatal", "panic"}, Doc: "Least important record to write."},
		{Path: "log.output", Type: Path, Doc: "File to write to; standard output when absent."},
		{Path: "log.audit", Type: Path, Doc: "File for audit events, one JSON line each (who changed what, logins); \"stdout\" and \"stderr\" are streams. It may be rotated. The catalog keeps events in any case, see docs/audit.md."},
		{Path: "log.auditRetention", Type: Duration, Default: "2160h", Doc: "How long the catalog keeps audit events, for berth audit and /api/v1/audit; 0 is for ever."},
	}
}

func serviceKeys() []Key {
	keys := []Key{
		{Path: "services", Type: Object, Status: Built, Doc: "The gRPC services, for deployments of more than one program."},
		{Path: "services.insecure", Type: Bool, Default: "false", Doc: "Allow gRPC without TLS to and from other machines. Whoever reaches these ports owns the registry."},
		{Path: "services.reflection", Type: Bool, Default: "false", Doc: "Tell gRPC clients such as grpcurl which methods and messages there are (gRPC server reflection)."},
		{Path: "services.tls", Type: Object, Doc: "Mutual TLS 1.3 between the services. What changes in its files serves the next connection."},
		{Path: "services.tls.cert", Type: Path, Doc: "This program's certificate chain, PEM. It must be good for servers and clients, and name what the program is."},
		{Path: "services.tls.key", Type: Path, Doc: "Its private key, PEM."},
		{Path: "services.tls.cacert", Type: Path, Doc: "Authorities of the other programs' certificates, PEM; several while one takes the place of another."},
		{Path: "services.tls.peers", Type: Object, Doc: "Which names in certificates (DNS names and URIs) show what their owner is. *.domain and scheme://x/* stand for all below."},
	}
	for _, role := range []string{"gateway", "blobstore", "metadata", "syncer", "scanner"} {
		keys = append(keys, Key{Path: "services.tls.peers." + role, Type: Strings, Default: `["` + role + `"]`,
			Doc: "Names of a " + role + "."})
	}
	keys = append(keys, Key{Path: "services.tls.peers.automation", Type: Strings,
		Doc: "Names of clients of the gRPC API that are no service; \"*\" is every certificate of the authority. Each acts as the user of its name. Absent: none."})
	for _, s := range []struct {
		name   string
		status Status
	}{{"blobstore", Built}, {"metadata", Built}, {"syncer", Built}, {"scanner", Built}} {
		name, at := s.name, "services."+s.name
		keys = append(keys,
			Key{Path: at, Type: Object, Status: s.status, Doc: "The " + name + " service."},
			Key{Path: at + ".metrics", Type: String, Doc: "host:port on which berth-" + name + " serves /metrics, /livez and /readyz over HTTP, or with services.tls over HTTPS to anybody who reaches it. Absent: not at all."},
			Key{Path: at + ".listen", Type: String, Doc: "host:port to serve it on, for berth-" + name + " and whatever else runs the service itself. Without TLS only loopback, unless services.insecure is true."},
			Key{Path: at + ".address", Type: Addrs, Doc: "Where other programs dial it: host:port or a gRPC target such as dns:///" + name + ":7000. Absent: a program that can runs the service itself."},
		)
	}
	return append(keys,
		Key{Path: "scheduler", Type: Object, Status: Unneeded, Doc: "Background work is paced by load, not by a number of workers."},
		Key{Path: "scheduler.numWorkers", Type: Int, Doc: "Background work is paced by load, not by a number of workers."},
		Key{Path: "cluster", Type: Object, Status: Unneeded, when: whenPresent, Doc: "Any gateway serves any repository, so requests need not be divided between members."},
		Key{Path: "cluster.members", Type: Strings, Doc: "host:port of each member."},
		Key{Path: "cluster.hashKey", Type: SecretT, Doc: "Key of 16 characters that divides repositories between members."},
		Key{Path: "cluster.tls", Type: Object, Doc: "TLS between members."},
		Key{Path: "cluster.tls.cert", Type: Path, Doc: "Certificate."},
		Key{Path: "cluster.tls.key", Type: Path, Doc: "Private key."},
		Key{Path: "cluster.tls.cacert", Type: Path, Doc: "Authority."},
	)
}
