package avftest.kinds;

import avftest.other.Colour;

/** Fields of every kind, with and without defaults. */
parcelable Big {
    parcelable Inner {
        int x = 5;
        String[] names = {"a", "b"};
    }

    int number;
    long big = 1L << 40;
    float ratio = 0.5f;
    char letter = 'x';
    byte small = -1;
    boolean on = true;
    String text = "hello";
    @nullable String missing;
    byte[] bytes = {1, 0xFFu8};
    int[] ints = {1, 2, 3};
    byte[3] key;
    int[2][2] matrix;
    Inner inner;
    Inner[2] pair;
    List<Inner> inners;
    Colour colour = Colour.GREEN;
    Colour[] colours = {Colour.RED, Colour.GREEN};
    @nullable(heap=true) Big next;
    @nullable IBinder binder;
    Tree tree;

    /** A union that may hold itself. */
    union Tree {
        int leaf;
        Tree[] branches;
    }
}
