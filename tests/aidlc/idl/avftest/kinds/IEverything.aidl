/** Every kind of type there is, for round trips. */
package avftest.kinds;

import avftest.kinds.Big;
import avftest.kinds.Holding;
import avftest.kinds.Native;
import avftest.other.Colour;

interface IEverything {
    const int LIMIT = 3;

    @Backing(type="byte") enum Small { MINUS = -128, NONE = 0, PLUS = 127 }
    enum Plain { ONE = 1, TWO }
    @Backing(type="long") enum Wide { LOW = -0x8000000000, HIGH = 1L << 62 }

    union Choice {
        int number = 7;
        String text;
        Small[] smalls;
        Big big;
        @nullable IBinder binder;
    }

    boolean echoBoolean(boolean value);
    byte echoByte(byte value);
    char echoChar(char value);
    int echoInt(int value);
    long echoLong(long value);
    float echoFloat(float value);
    double echoDouble(double value);
    String echoString(String value);
    @nullable @utf8InCpp String echoNullableString(@nullable @utf8InCpp String value);
    Small echoSmall(Small value);
    Plain echoPlain(Plain value);
    Wide echoWide(Wide value);

    boolean[] echoBooleans(in boolean[] value);
    byte[] echoBytes(in byte[] value);
    char[] echoChars(in char[] value);
    int[] echoInts(in int[] value);
    long[] echoLongs(in long[] value);
    float[] echoFloats(in float[] value);
    double[] echoDoubles(in double[] value);
    String[] echoStrings(in String[] value);
    @nullable String[] echoNullableStrings(in @nullable String[] value);
    Small[] echoSmalls(in Small[] value);
    Plain[] echoPlains(in Plain[] value);
    Wide[] echoWides(in Wide[] value);
    Big[] echoBigs(in Big[] value);
    @nullable Big[] echoNullableBigs(in @nullable Big[] value);
    List<String> echoList(in List<String> value);
    @nullable List<Big> echoNullableList(in @nullable List<Big> value);

    byte[4] echoFixedBytes(in byte[4] value);
    int[LIMIT] echoFixedInts(in int[LIMIT] value);
    int[2][3] echoMatrix(in int[2][3] value);
    String[2] echoFixedStrings(in String[2] value);
    Big[1] echoFixedBigs(in Big[1] value);

    Big echoBig(in Big value);
    @nullable Big echoNullableBig(in @nullable Big value);
    Choice echoChoice(in Choice value);
    Choice.Tag tagOf(in Choice value);
    Colour echoColour(in Colour value);

    IBinder echoBinder(IBinder value);
    @nullable IEverything echoNullableInterface(@nullable IEverything value);
    IEverything[] echoInterfaces(in IEverything[] value);
    List<IBinder> echoBinders(in List<IBinder> value);
    ParcelFileDescriptor echoFile(in ParcelFileDescriptor value);
    ParcelFileDescriptor[] echoFiles(in ParcelFileDescriptor[] value);
    FileDescriptor echoRawFile(in FileDescriptor value);
    FileDescriptor[] echoRawFiles(in FileDescriptor[] value);
    Holding echoHolding(in Holding value);
    Native echoNative(in Native value);
    @nullable Native[] echoNatives(in @nullable Native[] value);

    void outBig(out Big value);
    int sumAndReverse(inout int[] values, out String[] names);
    oneway void forget(in Choice value);
    void from(int import_, int self);
}
