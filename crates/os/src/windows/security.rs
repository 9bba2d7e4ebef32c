//! Who may open what the host makes, and whose a thing is.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, OwnedHandle};

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    EqualSid, GetTokenInformation, IsWellKnownSid, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::system::{done, made, wide};

/// Most bytes of a token's user: a TOKEN_USER and the longest SID (`SECURITY_MAX_SID_SIZE`, 68), with room.
const TOKEN_USER_BYTES: usize = 256;

/// The user of this process.
pub(super) struct OwnUser(
    /// A TOKEN_USER, which points into itself.
    Box<[u64; TOKEN_USER_BYTES / 8]>,
);

impl OwnUser {
    pub(super) fn look_up() -> io::Result<Self> {
        let mut token = std::ptr::null_mut();
        // SAFETY: the handle of this process needs no closing; the place for the token lives through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocesstoken
        done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
        let token: OwnedHandle = made(token)?;
        let mut user = Self(Box::new([0; TOKEN_USER_BYTES / 8]));
        let mut length = 0;
        // SAFETY: the token is open; the buffer has that many bytes, is aligned for the structure, and does not move.
        // https://learn.microsoft.com/en-us/windows/win32/api/securitybaseapi/nf-securitybaseapi-gettokeninformation
        done(unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenUser,
                user.0.as_mut_ptr().cast(),
                TOKEN_USER_BYTES as u32,
                &raw mut length,
            )
        })?;
        Ok(user)
    }

    fn sid(&self) -> PSID {
        // SAFETY: the buffer holds a TOKEN_USER since `look_up`, whose pointer leads into the same buffer.
        // https://learn.microsoft.com/en-us/windows/win32/api/winnt/ns-winnt-token_user
        unsafe { (*self.0.as_ptr().cast::<TOKEN_USER>()).User.Sid }
    }

    /// As in `S-1-5-18`.
    fn text(&self) -> io::Result<String> {
        let mut text = std::ptr::null_mut();
        // SAFETY: the SID is valid while `self` lives; the call makes a text that is to be freed by LocalFree.
        // https://learn.microsoft.com/en-us/windows/win32/api/sddl/nf-sddl-convertsidtostringsidw
        done(unsafe { ConvertSidToStringSidW(self.sid(), &raw mut text) })?;
        let mut units = Vec::new();
        for place in 0..TOKEN_USER_BYTES {
            // SAFETY: the text is closed by NUL, and nothing beyond that is read.
            let unit = unsafe { *text.add(place) };
            if unit == 0 {
                break;
            }
            units.push(unit);
        }
        // SAFETY: the text came from the call above and is used no more.
        // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-localfree
        unsafe { LocalFree(text.cast()) };
        Ok(String::from_utf16_lossy(&units))
    }
}

/// A list of who may do what, for a new object: this user, the system itself and administrators everything, others nothing.
pub(super) struct OwnersOnly {
    descriptor: PSECURITY_DESCRIPTOR,
    attributes: SECURITY_ATTRIBUTES,
}

// SAFETY: the descriptor is memory of this value's own that is only read after it was made.
unsafe impl Send for OwnersOnly {}
// SAFETY: as above.
unsafe impl Sync for OwnersOnly {}

impl std::fmt::Debug for OwnersOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnersOnly")
    }
}

impl OwnersOnly {
    pub(super) fn new() -> io::Result<Self> {
        // O: the owner. Protected (P): nothing is inherited. SY is the system, BA the administrators.
        // https://learn.microsoft.com/en-us/windows/win32/secauthz/security-descriptor-string-format
        let own = OwnUser::look_up()?.text()?;
        let list = wide(format!("O:{own}D:P(A;;GA;;;{own})(A;;GA;;;SY)(A;;GA;;;BA)"));
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: the text is closed by NUL and lives through the call; what is made is freed in `drop`.
        // https://learn.microsoft.com/en-us/windows/win32/api/sddl/nf-sddl-convertstringsecuritydescriptortosecuritydescriptorw
        done(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                list.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                std::ptr::null_mut(),
            )
        })?;
        let attributes = SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        };
        Ok(Self { descriptor, attributes })
    }

    /// Valid while `self` lives; handles made with it are not inherited.
    pub(super) fn attributes(&self) -> &SECURITY_ATTRIBUTES {
        &self.attributes
    }
}

impl Drop for OwnersOnly {
    fn drop(&mut self) {
        // SAFETY: the descriptor came from the call in `new` and is freed here only.
        // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-localfree
        unsafe { LocalFree(self.descriptor) };
    }
}

/// Whether an object belongs to this user, to the system or to administrators: nobody else could have made it so.
pub(super) fn belongs_to_a_trusted_one(object: BorrowedHandle<'_>) -> io::Result<bool> {
    let own = OwnUser::look_up()?;
    let (mut owner, mut descriptor) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the handle is open; only the owner is asked for, and both places live through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo
    let answer = unsafe {
        GetSecurityInfo(
            object.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if answer != 0 {
        return Err(io::Error::from_raw_os_error(answer.cast_signed()));
    }
    let trusted = !owner.is_null()
        && ([WinLocalSystemSid, WinBuiltinAdministratorsSid].into_iter().any(|known| {
            // SAFETY: the owner points into the descriptor, which lives until it is freed below.
            // https://learn.microsoft.com/en-us/windows/win32/api/securitybaseapi/nf-securitybaseapi-iswellknownsid
            unsafe { IsWellKnownSid(owner, known) != 0 }
        }) || {
            // SAFETY: both are valid: the owner as above, the other one while `own` lives.
            // https://learn.microsoft.com/en-us/windows/win32/api/securitybaseapi/nf-securitybaseapi-equalsid
            unsafe { EqualSid(owner, own.sid()) != 0 }
        });
    // SAFETY: the descriptor came from the call above and is used no more.
    // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-localfree
    unsafe { LocalFree(descriptor) };
    Ok(trusted)
}
