package config

import (
	"strings"
	"testing"
)

func TestWhatIsWrong(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		// unknown keys: name, line, nearest
		{"x.json", "{\n\"storage\": {\n\"rootDirectroy\": \"/x\"}}", "x.json:3: storage.rootDirectroy: unknown key; the nearest known one is rootDirectory"},
		{"x.yaml", "storage:\n  rootDir: /x\n", "x.yaml:2: storage.rootDir: unknown key; the nearest known one is rootDirectory"},
		{"x.json", "{\"gcDelay\": \"1h\"}", "x.json:1: gcDelay: unknown key; it belongs at storage.gcDelay"},
		{"x.json", "{\"htttp\": {}}", "x.json:1: htttp: unknown key; the nearest known one is http"},
		{"x.json", `{"http":{"accessControl":{"repositories":{"a.b/**":{"policy":[]}}}}}`, `http.accessControl.repositories."a.b/**".policy: unknown key; the nearest known one is policies`},
		{"x.json", `{"extensions":{"sync":{"registries":[{},{"url":1}]}}}`, "extensions.sync.registries[1].url: unknown key; the nearest known one is urls"},
		{"x.json", `{"":1}`, `x.json:1: "": unknown key`},
		// syntax
		{"x.json", "{\n\n\"a\": }", "x.json:3: not valid JSON"},
		{"x.json", "{\n\"http\": {}\n\"log\": {}}", "x.json:3: not valid JSON"},
		{"x.json", "{\n\"http\": {\n", "x.json:2: the file ends in the middle"},
		{"x.json", "{}\n{}", "x.json:2: { follows the end"},
		{"x.json", "{\n /* x", "x.json:2: a comment opened"},
		{"x.json", "", "x.json:1: the file is empty"},
		{"x.yaml", "", "x.yaml:1: the file is empty"},
		{"x.json", "{}", "holds no keys"},
		{"x.json", "[1]", "must hold an object, not a list"},
		{"x.json", strings.Repeat("[", 200), "nested more than"},
		{"x.yaml", "a: b: c", "x.yaml:1: not valid YAML"},
		{"x.yaml", "a: 1\n---\nb: 2", "a second YAML document"},
		{"x.yaml", "log: {}\nlog: {}", "x.yaml:2: log: given twice, first on line 1"},
		{"x.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]", "more than 200000 values"},
		{"x.yaml", "a: &a\n  b: *a", "nested more than"},
		{"x.toml", "a = 1", "toml files are not supported"},
		{"x", "{\"http\": [}", "x:1: not valid JSON"},
		{"x.json", "{\"Log\":{},\n\"log\":{}}", `x.json:2: log: given twice: line 1 has it as "Log"`},
		// environment
		{"x.json", "{\"log\":{\n\"output\":\"${NOPE}\"}}", "x.json:2: log.output: the environment variable NOPE is not set"},
		{"x.json", `{"log":{"output":"${a b}"}}`, "log.output: ${ must be followed"},
		{"x.json", `{"log":{"output":"${a"}}`, "log.output: ${ must be followed"},
		// types
		{"x.json", `{"storage":{"gcDelay":"1 hour"}}`, `storage.gcDelay: must be a duration such as 90s or 1h30m, not "1 hour"`},
		{"x.json", `{"storage":{"gc":"maybe"}}`, `storage.gc: must be true or false, not "maybe"`},
		{"x.json", `{"storage":{"maxRepos":1.5}}`, "storage.maxRepos: must be a whole number"},
		{"x.json", `{"storage":[]}`, "storage: must be an object, not a list"},
		{"x.json", `{"http":{"realm":{}}}`, "http.realm: must be a string, not an object"},
		{"x.json", `{"http":{"compat":[{}]}}`, "http.compat[0]: must be a string, not an object"},
		{"x.json", `{"http":{"compat":["docker"]}}`, `http.compat: "docker" is not one of "docker2s2"`},
		{"x.json", `{"extensions":{"sync":{"registries":[null]}}}`, "extensions.sync.registries[0]: must be an object"},
		{"x.json", `{"storage":{"storageDriver":"s3"}}`, "storage.storageDriver: must be an object"},
		// storage
		{"x.json", "{\"storage\":{\n\"gcDelay\":\"-1h\"}}", "x.json:2: storage.gcDelay: must not be negative"},
		{"x.json", `{"storage":{"gcInterval":"-1h"}}`, "storage.gcInterval: must not be negative"},
		{"x.json", `{"storage":{"gcTimeWindow":"25:00-01:00"}}`, "storage.gcTimeWindow: must be a daily time window"},
		{"x.json", `{"storage":{"gcTimeWindow":"1:00-02:00"}}`, "storage.gcTimeWindow: must be a daily time window"},
		{"x.json", `{"storage":{"gcTimeWindow":"01:00-01:00"}}`, "storage.gcTimeWindow: begins when it ends"},
		{"x.json", `{"storage":{"quotas":[{"repositories":["a/**"],"bytes":1},{"repositories":["a/**"],"bytes":2}]}}`, "storage.quotas[1].repositories: are those of another quota"},
		{"x.json", `{"storage":{"subPaths":{"/a":{"rootDirectory":"/a","gc":true,"gcDelay":"0s"}}}}`, "storage.subPaths./a.gcDelay: must be more than 0"},
		{"x.json", `{"storage":{"subPaths":{"/a":{}}}}`, "storage.subPaths./a.rootDirectory: needed"},
		{"x.json", `{"storage":{"subPaths":{"a":{"rootDirectory":"/a"}}}}`, "storage.subPaths.a: must be a slash"},
		{"x.json", `{"storage":{"rootDirectory":"/a","subPaths":{"/a":{"rootDirectory":"/a/"}}}}`, "storage.subPaths./a.rootDirectory: is the same directory as storage.rootDirectory"},
		{"x.json", `{"storage":{"rootDirectory":"/a","subPaths":{"/a":{"rootDirectory":"/a/b"}}}}`, "storage.subPaths./a.rootDirectory: lies in storage.rootDirectory"},
		{"x.json", `{"storage":{"subPaths":{"/a":{"rootDirectory":"/x/y"},"/b":{"rootDirectory":"/x"}}}}`, "storage.subPaths./b.rootDirectory: contains storage.subPaths./a.rootDirectory"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s4"}}}`, "storage.storageDriver.name: must be s3"},
		{"x.json", `{"storage":{"storageDriver":{"name":"gcs","bucket":"b"}}}`, `storage.storageDriver.name: gcs is not built in: Google Cloud Storage speaks S3's protocol: use "name": "s3", "regionendpoint": "https://storage.googleapis.com"`},
		{"x.json", `{"storage":{"storageDriver":{"name":"azure"}}}`, "run a gateway that does in front of it, such as versitygw azure"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","region":"r"}}}`, "storage.storageDriver.bucket: needed"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b"}}}`, "storage.storageDriver.region: needed"},
		{"x.json", "{\"storage\":{\"storageDriver\":{\"name\":\"s3\",\"bucket\":\"b\",\n\"regionendpont\":\"x\"}}}", `x.json:2: storage.storageDriver.regionendpont: unknown key; did you mean "regionendpoint"?`},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","regionendpoint":"ftp://x"}}}`, "storage.storageDriver.regionendpoint: must be a URL"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","accesskey":"x"}}}`, "storage.storageDriver.accesskey: give accesskey and secretkey"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","accesskey":"x","secretkey":"y","secretkeyfile":"z"}}}`, "storage.storageDriver.secretkeyfile: give secretkey or"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","keyid":"x"}}}`, "storage.storageDriver.keyid: needs encrypt"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","v4auth":false}}}`, "storage.storageDriver.v4auth: version 2"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","secure":"maybe"}}}`, "storage.storageDriver.secure: must be true or false"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":["b"],"region":"r"}}}`, "storage.storageDriver.bucket: must be a string"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r"},"subPaths":{"/a":{"storageDriver":{"name":"s3","bucket":"b","region":"r","rootdirectory":"/"}}}}}`, "storage.subPaths./a.rootDirectory: is the same directory as storage.rootDirectory"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","rootdirectory":"x"},"subPaths":{"/a":{"storageDriver":{"name":"s3","bucket":"b","region":"r","rootdirectory":"/x/y"}}}}}`, "storage.subPaths./a.rootDirectory: lies in storage.rootDirectory"},
		{"x.json", `{"storage":{"storageDriver":{"name":"s3","bucket":"b","region":"r","redirectendpoint":"s3.example.com"}}}`, "storage.storageDriver.redirectendpoint: must be a URL"},
		{"x.json", `{"storage":{"redirect":{"networks":["10.0.0.0/8","10.0.0.1"]}}}`, "storage.redirect.networks[1]: must be a network"},
		{"x.json", `{"storage":{"redirect":{"minSize":-1}}}`, "storage.redirect.minSize: must not be negative"},
		{"x.json", `{"storage":{"redirectBlobURL":true}}`, "storage.redirectBlobURL: needs a storageDriver"},
		{"x.json", `{"storage":{"metadata":{"driver":"postgres"}}}`, "storage.metadata.dsn: needed"},
		{"x.json", `{"storage":{"metadata":{"dsn":"x"}}}`, "storage.metadata.dsn: is for driver postgres"},
		{"x.json", `{"storage":{"metadata":{"driver":"mysql"}}}`, `storage.metadata.driver: "mysql" is not one of`},
		{"x.json", `{"storage":{"metadata":{"driver":"postgres","dsn":"x","dsnFile":"y"}}}`, "storage.metadata.dsnFile: give dsn or dsnFile"},
		{"x.json", `{"storage":{"retention":{"policies":[{"repositories":["a["],"keepTags":[{"patterns":["("]}]}]}}}`, "policies[0].keepTags[0].patterns[0]: not a regular expression"},
		{"x.json", `{"storage":{"retention":{"policies":[{"repositories":["{a"]}]}}}`, `repositories[0]: "{a" is not a glob`},
		{"x.json", `{"storage":{"subPaths":{"/a":{"rootDirectory":"/a","retention":{"delay":"-1h"}}}}}`, "subPaths./a.retention.delay: must not be negative"},
		// http
		{"x.json", `{"http":{"port":65536}}`, "http.port: must be between 0 and 65535"},
		{"x.json", `{"http":{"port":"a b"}}`, "http.port: must be a port number"},
		{"x.json", `{"http":{"externalUrl":"registry.example.com"}}`, "http.externalUrl: must be a URL"},
		{"x.json", `{"http":{"tls":{"cert":"x"}}}`, "http.tls.key: needed beside cert"},
		{"x.json", `{"http":{"tls":{"cacert":"x"}}}`, "http.tls.cacert: needs cert and key"},
		{"x.json", `{"services":{"tls":{}}}`, "services.tls.cert: needed"},
		{"x.json", `{"services":{"tls":{"cert":"c","cacert":"a"}}}`, "services.tls.key: needed"},
		{"x.json", `{"services":{"tls":{"cert":"c","key":"k"}}}`, "services.tls.cacert: needed"},
		{"x.json", `{"services":{"tls":{"cert":"c","key":"k","cacert":"a","peers":{"gateway":["g","*"]}}}}`, "services.tls.peers.gateway[1]: a certificate of any name must not make its owner a gateway"},
		{"x.json", `{"services":{"tls":{"cert":"c","key":"k","cacert":"a","peers":{"automation":[""]}}}}`, "services.tls.peers.automation[0]: must not be empty"},
		{"x.json", `{"http":{"auth":{"htpasswd":{}}}}`, "http.auth.htpasswd.path: needed"},
		{"x.json", `{"http":{"auth":{"ldap":{"address":"x","baseDN":"x","userAttribute":"x"}}}}`, "http.auth.ldap.bindDN: needed"},
		{"x.json", `{"http":{"auth":{"openid":{"providers":{"Corp":{"clientid":"x","scopes":["openid"]}}}}}}`, "http.auth.openid.providers.corp.issuer: must be a URL"},
		{"x.json", `{"http":{"auth":{"bearer":{"realm":"x"}}}}`, "http.auth.bearer: needs cert"},
		{"x.json", `{"http":{"auth":{"mtls":{}}}}`, "http.auth.mtls: needs http.tls.cacert"},
		{"x.json", `{"http":{"accessControl":{"repositories":{"**":{"defaultPolicy":["read"]}}}}}`, "defaultPolicy: grants to users, but http.auth lets nobody log in"},
		{"x.json", `{"http":{"accessControl":{"repositories":{"**":{"anonymousPolicy":["pull"]}}}}}`, `"pull" is not one of "read"`},
		// log, extensions
		{"x.json", "{\"log\":{\n\"level\":\"loud\"}}", `x.json:2: log.level: "loud" is not one of "debug", "info"`},
		{"x.json", `{"extensions":{"ui":{}}}`, "extensions.ui: needs extensions.search"},
		{"x.json", `{"extensions":{"metrics":{"prometheus":{"path":"/v2"}}}}`, "extensions.metrics.prometheus.path: must be"},
		{"x.json", `{"extensions":{"metrics":{"prometheus":{"path":"/a/../b"}}}}`, "extensions.metrics.prometheus.path: must be"},
		{"x.json", `{"extensions":{"metrics":{"prometheus":{"path":"/readyz"}}}}`, "extensions.metrics.prometheus.path: must be"},
		{"x.json", `{"extensions":{"sync":{"registries":[{}]}}}`, "registries[0].urls: needed"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["docker.io"]}]}}}`, "registries[0].urls[0]: must be a URL"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"pollInterval":"1h"}]}}}`, "registries[0].content: needed by pollInterval"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"manifestCheckInterval":"1h"}]}}}`, "manifestCheckInterval: needs onDemand"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"maxRetries":1}]}}}`, "retryDelay: needed by maxRetries"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"retryDelay":"2h","maxRetryDelay":"1h"}]}}}`, "maxRetryDelay: must not be less"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"reqConcurrent":0}]}}}`, "reqConcurrent: must be more than 0"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"content":[{"prefix":"a/b","destination":"/","stripPrefix":true}]}]}}}`, "content[0].stripPrefix: with destination /"},
		{"x.json", `{"extensions":{"sync":{"advertise":"here","registries":[{"urls":["https://a"]}]}}}`, "extensions.sync.advertise: must be host:port"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"forward":{"interval":"1h"}}]}}}`, "forward.interval: needs localPushes forward"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"localPushes":"deny","forward":{"conflict":"keep"}}]}}}`, "forward.conflict: needs localPushes forward"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"credentialHelper":"oauth2"}]}}}`, "oauth2CredentialHelper: needed"},
		{"x.json", `{"extensions":{"sync":{"registries":[{"urls":["https://a"],"oauth2CredentialHelper":{"tokenURL":"https://t","assertionFile":"a","signingFile":"b"}}]}}}`, "assertionFile: give either"},
	} {
		c, _, err := Parse(test.name, []byte(test.text), noEnv)
		if err == nil || !strings.Contains(err.Error(), test.want) || c != nil {
			t.Errorf("%.200s\n got %v\nwant %s", test.text, err, test.want)
		}
	}
}

func TestEveryMistakeIsTold(t *testing.T) {
	_, _, err := Parse("x.json", []byte("{\"a\":1,\n\"b\":2,\n\"storage\":{\"gc\":\"x\"}}"), noEnv)
	for _, want := range []string{"x.json:1: a:", "x.json:2: b:", "x.json:3: storage.gc:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, _, err = Parse("x.json", []byte(`{"http":{"compat":"`+strings.Repeat("x,", 10_000)+`"}}`), noEnv)
	if got := strings.Count(err.Error(), "\n"); got >= maxErrors {
		t.Errorf("%d lines of errors", got+1)
	}
}

func TestRaisedIntervals(t *testing.T) {
	c, warnings, err := Parse("x.json", []byte(`{"extensions":{"scrub":{"interval":"1m"},"search":{"cve":{"updateInterval":"1h"}}}}`), noEnv)
	if err != nil || len(warnings) != 2 || c.Extensions.Scrub.Interval != shortest || c.Extensions.Search.CVE.UpdateInterval != shortest {
		t.Errorf("got %v, %v", warnings, err)
	}
}

func TestEmptyAuthIsSaid(t *testing.T) {
	_, warnings, err := Parse("x.json", []byte("{\n\"http\":{\"auth\":{}}}"), noEnv)
	if err != nil || len(warnings) != 1 || warnings[0].Line != 2 || !strings.Contains(warnings[0].Text, "everybody") {
		t.Errorf("got %v, %v", warnings, err)
	}
}
