package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
)

// An object is loaded in the TPM (or persistent), with the Name that we calculated from its public area.
type object struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

func (o object) auth(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: s}
}

var (
	encryptIn  = tpm2.AESEncryption(128, tpm2.EncryptIn)
	encryptOut = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

const nonceSize = 16

// hmac is a session for one command, salted to the object.
func (o object) hmac(opts ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, append(opts, tpm2.Salted(o.handle, o.public))...)
}

// policySession is a session salted to the object.
func (o object) policySession(d *Device, opts ...tpm2.AuthOption) (tpm2.Session, func() error, error) {
	return tpm2.PolicySession(d, tpm2.TPMAlgSHA256, nonceSize, append(opts, tpm2.Salted(o.handle, o.public))...)
}

// A blob is an object outside the TPM. Its private part is bound to its public part and to the SRK: with any other,
// loading it fails with TPM_RC_INTEGRITY.
type blob struct {
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
}

// load puts a blob into one of the TPM's few slots.
func (d *Device) load(srk object, b blob) (object, error) {
	pub, err := b.public.Contents()
	if err != nil {
		return object{}, fmt.Errorf("load object: %w", err)
	}
	r, err := tpm2.Load{ParentHandle: srk.auth(tpm2.PasswordAuth(nil)), InPrivate: b.private, InPublic: b.public}.Execute(d)
	if err != nil {
		return object{}, fmt.Errorf("load object: %w", err)
	}
	n, err := tpm2.ObjectName(pub)
	if err != nil {
		d.flush(r.ObjectHandle)
		return object{}, fmt.Errorf("load object: %w", err)
	}
	return object{r.ObjectHandle, *n, *pub}, nil
}

var ecdsaSHA256 = tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA,
	Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}

func signingKey(attrs tpm2.TPMAObject, policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attrs, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}})}
}

// labelTemplate is the key of this plan's label: born in this TPM, never out of it, and usable under its policy only.
func (p plan) labelTemplate() (tpm2.TPMTPublic, error) {
	d, err := p.under(label.Sign).digest()
	return signingKey(tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, SignEncrypt: true, NoDA: true, AdminWithPolicy: true}, d[:]), err
}

// akTemplate is the attestation key: restricted, so that it signs only what this TPM says.
func akTemplate() tpm2.TPMTPublic {
	return signingKey(tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, SignEncrypt: true, NoDA: true, UserWithAuth: true, Restricted: true}, nil)
}

// sealedTemplate is a secret that the TPM gives out under a policy: the state secret, or one bound to a label.
func sealedTemplate(p policy) (tpm2.TPMTPublic, error) {
	d, err := p.digest()
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true},
		AuthPolicy:       tpm2.TPM2BDigest{Buffer: d[:]},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
	}, err
}

// seal makes a blob of a secret; the secret crosses the bus encrypted.
func (d *Device) seal(srk object, p policy, secret []byte) (blob, error) {
	t, err := sealedTemplate(p)
	if err != nil {
		return blob{}, err
	}
	r, err := tpm2.Create{ParentHandle: srk.auth(srk.hmac(encryptIn)), InPublic: tpm2.New2B(t),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})}}}.Execute(d)
	if err != nil {
		return blob{}, fmt.Errorf("seal: %w", err)
	}
	return blob{r.OutPublic, r.OutPrivate}, nil
}

// sameTemplate says that a public area is the template with some key in it.
func sameTemplate(pub, template tpm2.TPMTPublic) bool {
	template.Unique = pub.Unique
	return string(tpm2.Marshal(pub)) == string(tpm2.Marshal(template))
}

var errOtherKey = fmt.Errorf("the TPM holds another key at %#x, where the P-256 storage root key belongs", srkHandle)

// persistentSRK reads the SRK and refuses any other key in its place. A key that merely claims the template is still
// possible: an enrolled box compares the Name with the one that the domain signed.
func (d *Device) persistentSRK() (object, error) {
	r, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(srkHandle)}.Execute(d)
	if err != nil {
		return object{}, fmt.Errorf("read SRK: %w", err)
	}
	pub, err := r.OutPublic.Contents()
	if err != nil {
		return object{}, fmt.Errorf("read SRK: %w", err)
	}
	if !sameTemplate(*pub, tpm2.ECCSRKTemplate) {
		return object{}, errOtherKey
	}
	n, err := tpm2.ObjectName(pub)
	if err != nil {
		return object{}, fmt.Errorf("read SRK: %w", err)
	}
	return object{srkHandle, *n, *pub}, nil
}

// primarySRK makes the SRK as a transient object; the caller flushes it.
func (d *Device) primarySRK(hierarchy tpm2.TPMHandle) (object, error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(d)
	if err != nil {
		return object{}, fmt.Errorf("make SRK: %w", err)
	}
	pub, err := r.OutPublic.Contents()
	if err != nil {
		d.flush(r.ObjectHandle)
		return object{}, fmt.Errorf("make SRK: %w", err)
	}
	return object{r.ObjectHandle, r.Name, *pub}, nil
}
