package android.system.virtualizationcommon;

/** What went wrong in the guest, as the guest tells it. */
@Backing(type="int")
enum ErrorCode {
    UNKNOWN = 0,
    PAYLOAD_VERIFICATION_FAILED = 1,
    PAYLOAD_CHANGED = 2,
    PAYLOAD_CONFIG_INVALID = 3,
}
