#!/usr/bin/env bash
# Makes what compose.yaml needs and nobody else may have, in secrets/: passwords,
# and an authority with a certificate for each kind of service. Files that are
# there stay; delete secrets/ to begin anew, or one directory of certificates and
# run this again to renew them (services take them up without a restart).
# Needs openssl.
set -eu -o pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets/{gateway,blobstore,metadata,scanner,syncer,database,s3,authority}

password() { [ -s "$1" ] || openssl rand -hex 24 >"$1"; }
password secrets/database/password
printf 'postgres://berth:%s@database:5432/berth?sslmode=disable\n' "$(cat secrets/database/password)" >secrets/database/dsn
password secrets/s3/secret-key
printf 'ROOT_ACCESS_KEY=berth\nROOT_SECRET_KEY=%s\n' "$(cat secrets/s3/secret-key)" >secrets/s3.env

authority=secrets/authority
[ -s $authority/ca.crt ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
	-subj "/CN=Berth services" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
	-keyout $authority/ca.key -out $authority/ca.crt 2>/dev/null

# The one name in a certificate says what its owner is, see SECURITY.md.
for service in gateway blobstore metadata scanner syncer; do
	dir=secrets/$service
	cp $authority/ca.crt $dir/ca.crt
	[ -s $dir/tls.crt ] && continue
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$service" -keyout $dir/tls.key.new -out $dir/tls.csr 2>/dev/null
	openssl x509 -req -in $dir/tls.csr -CA $authority/ca.crt -CAkey $authority/ca.key -CAcreateserial -days 825 -out $dir/tls.crt.new \
		-extfile <(printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n' $service) 2>/dev/null
	rm $dir/tls.csr
	mv $dir/tls.key.new $dir/tls.key
	mv $dir/tls.crt.new $dir/tls.crt
done

# Containers run as users of their own, who see these directories and no others.
# secrets/ itself is closed to everybody else on this machine.
chmod 0755 secrets/{gateway,blobstore,metadata,scanner,syncer,database,s3}
chmod 0644 secrets/{gateway,blobstore,metadata,scanner,syncer,database,s3}/*
