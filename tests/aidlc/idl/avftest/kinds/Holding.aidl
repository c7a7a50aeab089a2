package avftest.kinds;

/** Room for what others add. */
@VintfStability
parcelable Holding {
    @VintfStability
    parcelable Extension {
        String text;
        int[] numbers;
    }

    int before = 1;
    ParcelableHolder extension;
    int after = 2;
}
