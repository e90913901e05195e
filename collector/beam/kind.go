package beam

import "strings"

// Kind returns a registered name with group and index numbers folded to N, so
// that processes that do the same work for different groups, shards or
// connections have one kind:
//
//	vmq_swc_db_meta7   → vmq_swc_db_metaN
//	vmq_queue_sup_12   → vmq_queue_sup_N
//	shard_3_writer     → shard_N_writer
//	conn_<0.123.0>     → conn_<N.N.N>
//
// A number is folded if it ends the name, or stands between characters that
// are no letters and digits. All others belong to a word and stay:
// vmq_mqtt5_fsm. Of the numbers that end a name, those of well-known words
// (base64, gen_server2) and of versions (api_v2) stay.
//
// Initial calls and spawned functions are kinds already: digits in them are
// the programmer's, not an instance's.
func Kind(name string) string {
	if ending := lastWord(name); words[strings.ToLower(ending)] || isVersion(ending) {
		head := name[:len(name)-len(ending)]
		return foldNumbers(head, true) + ending
	}
	return foldNumbers(name, false)
}

// foldNumbers replaces the numbers of a name that stand alone, and the one at
// its end unless something follows.
func foldNumbers(name string, continues bool) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		end := i
		for end < len(name) && isDigit(name[end]) {
			end++
		}
		if end == i {
			b.WriteByte(name[i])
			i++
			continue
		}
		begins := i == 0 || !isWord(name[i-1])
		ends := end < len(name) && !isWord(name[end]) || end == len(name) && !continues
		last := end == len(name) && !continues
		if begins && ends || last {
			b.WriteByte('N')
		} else {
			b.WriteString(name[i:end])
		}
		i = end
	}
	return b.String()
}

// words are the words ending in digits that are no numbered instances. Names
// are compared from their last separator on, or whole.
var words = set(`
	ascii85 base16 base32 base58 base62 base64 base85
	crc8 crc16 crc32 crc32c crc64 md2 md4 md5 sha1 sha2 sha3 sha224 sha256 sha384 sha512 ripemd160 blake2 blake3
	x25519 x448 ed25519 ed448 secp256k1 aes128 aes192 aes256 chacha20 poly1305 pkcs1 pkcs5 pkcs7 pkcs8 pkcs11 pkcs12 x509
	utf8 utf16 utf32 latin1 iso8859 ipv4 ipv6 inet4 inet6 udp4 udp6 tcp4 tcp6 dns64 nat64
	http1 http2 http3 h2 h3 mqtt3 mqtt4 mqtt5 amqp10 amqp091 socks4 socks5 smtp3 imap4 pop3 ldap3 oauth1 oauth2 tls1 ssl3
	p2p k8s s3 ec2 x11 pg2 log4 lz4 bzip2 mp3 mp4 int8 int16 int32 int64 float16 float32 float64 x86 x64 win32
	gen_server2 gen_statem2 gen_fsm2 supervisor2 supervisor3 priority_queue2 gs2`)

func set(text string) map[string]bool {
	m := map[string]bool{}
	for _, word := range strings.Fields(text) {
		m[word] = true
	}
	return m
}

// lastWord returns the longest ending of a name that is in words and begins at
// a word's beginning, or else the name's last word.
func lastWord(name string) string {
	for i := range len(name) {
		if (i == 0 || !isWord(name[i-1])) && words[strings.ToLower(name[i:])] {
			return name[i:]
		}
	}
	i := len(name)
	for i > 0 && isWord(name[i-1]) {
		i--
	}
	return name[i:]
}

// isVersion tells whether a word is a version: v2, V12.
func isVersion(word string) bool {
	return len(word) > 1 && (word[0] == 'v' || word[0] == 'V') && strings.Trim(word[1:], "0123456789") == ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isWord tells whether a byte is part of a word: a letter (all of a name that
// is not ASCII counts as letters) or a digit.
func isWord(c byte) bool {
	return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
}
