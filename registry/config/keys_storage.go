package config

func storageKeys() []Key {
	return []Key{
		{Path: "storage", Type: Object, Status: Built, Doc: "Where bytes and names are kept. Read by programs that run the blobstore or the metadata service."},
		{Path: "storage.rootDirectory", Type: Path, pool: true, Doc: "Directory of the store; needed by every program that runs the blobstore or the metadata service. Roots may not be equal or lie in each other."},
		{Path: "storage.dedupe", Type: Bool, Default: "true", pool: true, Doc: "Accepted either way: content is stored once per pool."},
		{Path: "storage.commit", Type: Bool, Default: "true", pool: true, Doc: "Answer a push only when it is on stable storage. Only an explicit false gives that up."},
		{Path: "storage.allowSparse", Type: Bool, Default: "false", Doc: "Accept manifests and indexes whose content is missing here, as mirrors hold them."},
		{Path: "storage.allowWrongSizes", Type: Bool, Default: "false", Doc: "Accept manifests and indexes that tell sizes of their content other than it has here; newer clients refuse to pull such images."},

		{Path: "storage.gc", Type: Bool, Default: "true", Status: Warned, pool: true, Doc: "Remove unreferenced content."},
		{Path: "storage.gcDelay", Type: Duration, Default: "1h", Status: Warned, pool: true, Doc: "Minimum age of unreferenced content before it is removed."},
		{Path: "storage.gcInterval", Type: Duration, Default: "1h", Status: Warned, pool: true, Doc: "Time between sweeps for what was missed."},
		{Path: "storage.gcTimeWindow", Type: String, Status: Warned, pool: true, Doc: "Daily UTC window HH:MM-HH:MM in which a sweep may start; it may wrap midnight."},
		{Path: "storage.gcMaxSchedulerDelay", Type: Duration, Status: Unneeded, pool: true, Doc: "Garbage collection runs all the time and has no per-repository start delay."},
		{Path: "storage.undoWindow", Type: Duration, Default: "24h", Status: Warned, Doc: "How long a delete or a moved tag can be undone."},
		{Path: "storage.verifyReads", Type: String, Status: Refused, Values: []string{"", VerifyAlways}, Doc: "\"always\" checks every chunk of a blob before it is sent."},

		{Path: "storage.maxRepos", Type: Int, Status: Refused, Doc: "Maximum number of repositories; 0 is no limit."},
		{Path: "storage.redirectBlobURL", Type: Bool, Default: "false", Status: Warned, pool: true, Doc: "Answer blob requests with a redirect to a presigned URL of the object store."},
		{Path: "storage.storageDriver", Type: DriverT, pool: true, Doc: "Object store that holds the bytes: name s3, and the keys listed below. Empty is the local disk."},
		{Path: "storage.cacheDriver", Type: DriverT, Status: Unneeded, pool: true, Doc: "Berth keeps what zot puts in a cache database in its catalog (storage.metadata)."},
		{Path: "storage.remoteCache", Type: Bool, Status: Unneeded, pool: true, Doc: "Berth keeps what zot puts in a remote cache in its catalog (storage.metadata)."},
		{Path: "storage.fastRestart", Type: Bool, Status: Unneeded, Doc: "Berth never walks the store at start."},

		{Path: "storage.metadata", Type: Object, Doc: "The catalog: names, tags, manifests, links."},
		{Path: "storage.metadata.driver", Type: String, Default: SQLite, Values: []string{SQLite, Postgres}, Doc: "Database of the catalog. sqlite is a file below storage.rootDirectory; berth-edge has nothing else."},
		{Path: "storage.metadata.dsn", Type: SecretT, Doc: "Data source name of the PostgreSQL database, as libpq takes it: postgres://user:password@host:5432/name?sslmode=verify-full, or key=value pairs."},
		{Path: "storage.metadata.dsnFile", Type: Path, Doc: "File that holds the data source name. It is read for each new connection, so a password may change without a restart."},
		{Path: "storage.metadata.maxStaleness", Type: Duration, Status: Warned, Doc: "How old a cached answer of the catalog may be; 0 is not at all."},

		{Path: "storage.retention", Type: Object, Status: Refused, Doc: "Which tags and untagged manifests are kept."},
		{Path: "storage.retention.dryRun", Type: Bool, Default: "false", Doc: "Say what would be removed, remove nothing."},
		{Path: "storage.retention.delay", Type: Duration, Doc: "Minimum age of untagged manifests and orphan referrers; gcDelay when absent."},
		{Path: "storage.retention.policies", Type: List, when: whenPresent, Doc: "The first policy that matches a repository applies to it."},
		{Path: "storage.retention.policies[].repositories", Type: Strings, Doc: "Globs of repository names."},
		{Path: "storage.retention.policies[].deleteReferrers", Type: Bool, Default: "false", Doc: "Remove referrers whose subject is gone."},
		{Path: "storage.retention.policies[].deleteUntagged", Type: Bool, Default: "true", Doc: "Remove untagged manifests."},
		{Path: "storage.retention.policies[].keepTags", Type: List, Doc: "Rules by tag. If there are any, tags that match no entry are removed."},
		{Path: "storage.retention.policies[].keepTags[].patterns", Type: Strings, Doc: "Unanchored regular expressions; a tag belongs to the first entry that matches. None match all."},
		{Path: "storage.retention.policies[].keepTags[].pulledWithin", Type: Duration, Doc: "Keep tags pulled or pushed this recently."},
		{Path: "storage.retention.policies[].keepTags[].pushedWithin", Type: Duration, Doc: "Keep tags pushed this recently."},
		{Path: "storage.retention.policies[].keepTags[].mostRecentlyPulledCount", Type: Int, Doc: "Keep this many of the most recently pulled tags."},
		{Path: "storage.retention.policies[].keepTags[].mostRecentlyPushedCount", Type: Int, Doc: "Keep this many of the most recently pushed tags."},
		{Path: "storage.retention.policies[].keepUntagged", Type: Object, Doc: "Rules for untagged manifests."},
		{Path: "storage.retention.policies[].keepUntagged.pulledWithin", Type: Duration, Doc: "Keep manifests pulled or pushed this recently."},
		{Path: "storage.retention.policies[].keepUntagged.pushedWithin", Type: Duration, Doc: "Keep manifests pushed this recently."},
		{Path: "storage.retention.policies[].keepUntagged.mostRecentlyPulledCount", Type: Int, Doc: "Keep this many of the most recently pulled manifests."},
		{Path: "storage.retention.policies[].keepUntagged.mostRecentlyPushedCount", Type: Int, Doc: "Keep this many of the most recently pushed manifests."},

		{Path: "storage.subPaths", Type: Map, Doc: "Further pools, by \"/prefix\": a repository whose first path component is the prefix lives there."},
		{Path: "storage.subPaths.*", Type: Object, Doc: "One pool."},
	}
}
