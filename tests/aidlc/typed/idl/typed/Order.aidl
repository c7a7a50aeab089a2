package typed;

/** What somebody wants. */
parcelable Order {
    enum Size { SMALL, LARGE }

    union Payment {
        /** In cents. */
        int cash;
        String card;
    }

    String what = "tea";
    Size size = Size.SMALL;
    Payment payment;
    @nullable byte[] photo;
}
