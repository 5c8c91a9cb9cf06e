package config

import (
	"bytes"
	"fmt"
	"strings"
)

// Reference returns docs/configuration.md: the rules of the file and the table.
func Reference() []byte {
	var out bytes.Buffer
	out.WriteString(referenceHead)
	section := ""
	for _, k := range Keys() {
		if top, _, _ := strings.Cut(k.Path, "."); top != section {
			section = top
			fmt.Fprintf(&out, "\n## %s\n\n", section)
			out.WriteString("| Key | Type | Default | State | Meaning |\n|---|---|---|---|---|\n")
		}
		kind := string(k.Type)
		if len(k.Values) > 0 && k.Type == String {
			kind = list(k.Values)
		}
		state := k.Status.String()
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", code(k.Path), kind, code(k.Default), state, strings.ReplaceAll(k.Doc, "|", "\\|"))
	}
	out.WriteString(referenceTail)
	return out.Bytes()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
}

const referenceHead = `<!-- Generated from registry/config by "go generate ./config" in registry. Do not edit. -->

# Configuration

Every Berth program reads the same file, and of it only the sections it needs. The file is zot's, with a few keys
of our own: a zot configuration works as it is.

    berth serve config.json     # run
    berth verify config.json    # check, and say what would be ignored or refused
    berth schema                # JSON Schema (draft-07) of the file

` + "`berth serve`" + ` without a file listens on 127.0.0.1:5000 and keeps its data in ` + "`./data`" + `.

## How the file is read

* The extension tells the format: ` + "`.json`, `.yaml` or `.yml`" + `; with another one each is tried. TOML is not supported.
* JSON may have ` + "`//` and `/* */`" + ` comments. YAML may have anchors and merge keys. One file holds one document.
* Letter case of keys does not count. Names of your choice (globs, groups, sub-paths, providers) become lower case.
* An unknown key is an error that names the key, its line and the nearest known one. So is a value that can't be right.
  Only below ` + "`extensions.events.sinks`" + ` unknown keys are ignored, with a warning, as in zot.
* A key given twice in a JSON object: the last one counts, with a warning. In two spellings, or in YAML, it is an error.
* Types are weak: ` + "`\"true\"`" + ` is a boolean, ` + "`5000`" + ` is a string, one string is a list (divided at commas), one object is a
  list of one, ` + "`null`" + ` is as if the key were absent.
* Durations are written as in Go (` + "`90s`, `1h30m`" + `); a bare number is nanoseconds.
* ` + "`${NAME}`" + ` in a string value is replaced by that environment variable; it is an error if the variable is not set.
  ` + "`$${`" + ` is a literal ` + "`${`" + `; a ` + "`$`" + ` before anything else is left alone.
* Secrets can be kept out of the file: beside ` + "`dsn`, `bindPassword`, `clientsecret` and `password`" + ` stands a key with ` + "`File`" + `
  at its end that names a file with the secret in it (a line end at its end does not count).
  Secrets are never printed or logged.

## Changes while a program runs

The file is followed, also behind a symlink that is swapped: a second after it was written last it is read again, and at once on SIGHUP. What is wrong
with it is logged, and the old configuration goes on whole (` + "`berth_config_reload_success`" + ` is 0). What changed takes effect for requests that begin then, but for these
keys, which the log names with the words "needs a restart" (` + "`berth_config_restart_needed`" + ` counts them):

* ` + "`http.address`, `http.port`, `http.tls`, `log.output`, `log.audit`, `services`" + ` and what stands below them;
* of ` + "`storage`: `rootDirectory`, `storageDriver`, `metadata`, `commit`, `reserve`, `watermarks`" + `, and a pool that is new in ` + "`subPaths`" + ` or gone from it;
* ` + "`extensions.search`, `extensions.search.cve` and `extensions.sync`" + ` where the program was started without them. Their blocks
  can be taken away: then nothing is scanned or fetched by itself any more;
* ` + "`extensions.sync.downloadDir`" + `, and ` + "`extensions.sync.advertise`" + `, by which other syncers know this one already; ` + "`extensions.sync.notices`" + `.

Every program applies what it has a use for: each of several reads its own copy of the file. A quota that is new is charged a minute later, when all programs
have read of it and what was under way is counted.
Files that the configuration names (certificates, htpasswd) are followed by themselves.

## States

| State | What happens when the file uses the key |
|---|---|
| built | It does what it says. |
| not needed | zot needs it and Berth does not. It is named once, with the reason. |
| warned | Its feature is not built yet. It is named in one warning and ignored. |
| refused | Its feature is not built yet, and going on without it would open, expose or lose something. The program does not start. ` + "`--accept-unbuilt KEY`" + ` overrides that for one key and those below it. |

A block with ` + "`\"enable\": false`" + ` is not used, so nothing in it is warned about or refused; neither is a refused key that is
empty, zero or false.

In the tables ` + "`*`" + ` stands for a name of your choice and ` + "`[]`" + ` for each item of a list.
`

const referenceTail = `
## Driver maps

` + "`storageDriver`" + ` with ` + "`\"name\": \"s3\"`" + ` takes the keys of zot's and distribution's S3 driver:

| key | default | |
|---|---|---|
| bucket | | The bucket; it must be there. |
| region | | Its region; not needed with regionendpoint. |
| regionendpoint | Amazon's | URL of an S3 server that is not Amazon's, or its host and port. |
| redirectendpoint | regionendpoint | URL of the same server for clients that redirectBlobURL sends there. |
| secure | true | https for a regionendpoint that is no URL. |
| forcepathstyle | true with regionendpoint | http://host/bucket/… instead of http://bucket.host/… |
| skipverify | false | Accept any certificate of the server. |
| rootdirectory | | What keys begin with. All of Berth's objects lie in .berth/ below it. |
| accesskey, secretkey or secretkeyfile, sessiontoken | | Credentials. Without them: environment (AWS_ACCESS_KEY_ID, …), shared profile, web identity, container and instance metadata, in this order. |
| profile | | Name of the shared profile. |
| encrypt, keyid | false | Ask for server-side encryption, with a KMS key. |
| storageclass | the bucket's | Storage class of all objects. |
| objectacl | | Canned ACL of all objects. |
| useragent | | Name that the user agent of requests has in it. |
| usedualstack, usefipsendpoint, accelerate | false | Amazon's endpoints of that kind. |
| singlewriter | false | No other blobstore uses the bucket. For servers without conditional writes. |
| v4auth | true | The only signature there is. |
| chunksize, multipartcopy…, loglevel, logs3api… | | Accepted, and warned about: they change nothing. |

Other drivers (` + "`gcs`, `azure`, `oss`, `swift`" + `) are refused with the settings by which such a store is used through S3's protocol.
The keys of ` + "`cacheDriver` and `sessionDriver`" + ` are the driver's own and are not checked.
`
